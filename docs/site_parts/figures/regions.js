segjax.figure("regions", (kit, data) => {
  const { cells: n, stride, bins, features } = data;
  const side = n * stride;
  let box = [...data.box];
  let grip = null;
  const view = kit.view({
    width: side, height: side, drag: true,
    label: "feature map with a box; the arrow keys move the box by a pixel, with shift its lower right corner",
    title: "blue: RoIPool's whole cells; orange: the box, and RoIAlign's samples",
    move: (x, y, down, pressed) => {
      if (down) {
        const corner = Math.hypot(x - box[3], y - box[2]) < 12;
        const inside = x > box[1] && x < box[3] && y > box[0] && y < box[2];
        grip = corner ? { corner } : inside ? { dy: y - box[0], dx: x - box[1] } : null;
      } else if (!pressed) grip = null;
      if (!grip) return;
      if (grip.corner) resize(y, x); else place(y - grip.dy, x - grip.dx);
      show();
    },
    keys: (dx, dy, corner) => {
      if (corner) resize(box[2] + dy, box[3] + dx); else place(box[0] + dy, box[1] + dx);
      show();
    },
  });
  const pool = kit.view({ width: bins, height: bins, label: "RoIPool", title: "RoIPool" });
  const align = kit.view({ width: bins, height: bins, label: "RoIAlign", title: "RoIAlign" });

  const half = (x) => Math.round(2 * x) / 2;
  function place(y, x) {
    const [high, wide] = [box[2] - box[0], box[3] - box[1]];
    const [top, left] = [kit.clamp(half(y), 0, side - high), kit.clamp(half(x), 0, side - wide)];
    box = [top, left, top + high, left + wide];
  }
  function resize(y, x) {
    box[2] = kit.clamp(half(y), box[0] + 8, side);
    box[3] = kit.clamp(half(x), box[1] + 8, side);
  }
  // Girshick 2015: ends are rounded and belong to the box; bins are rounded outwards.
  function rounded() { return box.map((x) => Math.floor(x / stride + 0.5)); }
  function bin(first, last, i) {
    const length = Math.max(last - first + 1, 1);
    return [first + Math.floor((i * length) / bins), first + Math.ceil(((i + 1) * length) / bins)].map((x) => kit.clamp(x, 0, n));
  }
  function pooled(i, j) {
    const [y0, x0, y1, x1] = rounded();
    const [[top, bottom], [left, right]] = [bin(y0, y1, i), bin(x0, x1, j)];
    let most = -Infinity;
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) most = Math.max(most, features[y][x]);
    return most === -Infinity ? 0 : most;
  }
  // He et al. 2017: two bilinear samples along each axis of a bin; middles of cells lie at halves.
  function samples(i, j) {
    const [high, wide] = [(box[2] - box[0]) / bins, (box[3] - box[1]) / bins];
    return [0.25, 0.75].flatMap((v) => [0.25, 0.75].map((u) => [box[0] + (i + v) * high, box[1] + (j + u) * wide]));
  }
  function bilinear(y, x) {
    [y, x] = [kit.clamp(y / stride - 0.5, 0, n - 1), kit.clamp(x / stride - 0.5, 0, n - 1)];
    const [i, j] = [Math.min(Math.floor(y), n - 2), Math.min(Math.floor(x), n - 2)];
    const [v, u] = [y - i, x - j];
    return (1 - v) * ((1 - u) * features[i][j] + u * features[i][j + 1]) + v * ((1 - u) * features[i + 1][j] + u * features[i + 1][j + 1]);
  }
  const aligned = (i, j) => samples(i, j).reduce((sum, [y, x]) => sum + bilinear(y, x) / 4, 0);
  const grid = (value) => [0, 1].map((i) => [0, 1].map((j) => value(i, j)));
  function show() {
    const [y0, x0, y1, x1] = rounded();
    const points = grid(samples).flat(2);
    const [a, b] = [grid(pooled), grid(aligned)];
    view.draw([
      ...kit.cells(features, { side: stride }),
      ["rect", { class: "other", x: x0 * stride, y: y0 * stride, width: (Math.max(x1, x0) - x0 + 1) * stride, height: (Math.max(y1, y0) - y0 + 1) * stride }],
      ["rect", { class: "line", x: box[1], y: box[0], width: box[3] - box[1], height: box[2] - box[0] }],
      ...points.map(([y, x]) => ["circle", { class: "dot", cx: x, cy: y, r: 1.6 }]),
      ["circle", { class: "dot", cx: box[3], cy: box[2], r: 3.4 }],
    ]);
    const options = { size: 0.26, text: (x) => x.toFixed(2) };
    pool.draw(kit.cells(a, options));
    align.draw(kit.cells(b, options));
    kit.say({
      box: box.map((x) => x.toFixed(1)).join(", "),
      RoIPool: a.flat().map((x) => x.toFixed(3)).join(", "),
      RoIAlign: b.flat().map((x) => x.toFixed(3)).join(", "),
    });
  }
  show();
});
