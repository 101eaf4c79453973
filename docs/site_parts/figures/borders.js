segjax.figure("borders", (kit, data) => {
  const { width, height, distances } = data;
  const cells = kit.bytes(data.cells);
  const w0 = kit.slider("w0", "w0", Array.from({ length: 21 }, (_, i) => i), 10, show);
  const sigma = kit.slider("sigma", "sigma, pixels", Array.from({ length: 15 }, (_, i) => i + 1), 5, show);
  // At first the background pixel in the narrowest gap.
  const gaps = distances.map((distance, i) => (cells[i] ? Infinity : distance));
  const narrowest = gaps.indexOf(Math.min(...gaps));
  let [row, column] = [Math.floor(narrowest / width), narrowest % width];
  const view = kit.view({
    width, height, wide: true, pixels: true, label: "map of weights; the arrow keys choose a pixel",
    title: "weight of each pixel, from 1 (black) to 21 (white); cells are blue",
    move: (x, y) => { [row, column] = [Math.floor(y), Math.floor(x)]; show(); },
    keys: (dx, dy) => { [row, column] = [kit.clamp(row + dy, 0, height - 1), kit.clamp(column + dx, 0, width - 1)]; show(); },
  });
  const term = (i) => (cells[i] ? 0 : Math.exp(-(distances[i] ** 2) / (2 * sigma.value ** 2)));
  function show() {
    view.paint((i) => (cells[i] ? [40, 90, 140] : kit.heat(255 * Math.min(1, (term(i) * w0.value) / 20))));
    view.draw([["rect", { class: "frame", x: column, y: row, width: 1, height: 1 }]]);
    const at = row * width + column;
    let sum = 0;
    for (let i = 0; i < width * height; i++) sum += 1 + w0.value * term(i);
    kit.say({
      pixel: `row ${row}, column ${column}`,
      "d1 + d2": cells[at] ? "in a cell" : distances[at].toFixed(2),
      weight: (1 + w0.value * term(at)).toFixed(3),
      "mean weight": (sum / (width * height)).toFixed(3),
    });
  }
  show();
});
