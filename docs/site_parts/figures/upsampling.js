segjax.figure("upsampling", (kit, data) => {
  const side = data.side;
  const image = kit.bytes(data.image);
  const way = kit.choice("way", "way back", Object.keys(data["2"].ways), show);
  const factor = kit.slider("factor", "factor", [2, 4], 2, show);
  let [row, column] = [12, 10];
  const interaction = {
    move: (x, y) => { [row, column] = [Math.floor(y), Math.floor(x)]; show(); },
    keys: (dx, dy) => { [row, column] = [kit.clamp(row + dy, 0, side - 1), kit.clamp(column + dx, 0, side - 1)]; show(); },
  };
  const label = "; the arrow keys choose a pixel";
  const options = { width: side, height: side, pixels: true };
  const original = kit.view({ ...options, label: `image${label}`, title: "image", ...interaction });
  const small = kit.view({ ...options, label: "max-pooled image", title: "max-pooled" });
  const back = kit.view({ ...options, label: `enlarged image${label}`, title: "enlarged again", ...interaction });
  function show() {
    const f = factor.value;
    const n = side / f;
    const at = data[f];
    const pooled = kit.bytes(at.small);
    const restored = kit.bytes(at.ways[way.value]);
    small.resize(n, n);
    original.paint((i) => kit.gray(image[i]));
    small.paint((i) => kit.gray(pooled[i]));
    back.paint((i) => kit.gray(restored[i]));
    const pixel = [["rect", { class: "frame", x: column, y: row, width: 1, height: 1 }]];
    original.draw(pixel);
    back.draw(pixel);
    const [i, j] = [Math.floor(row / f), Math.floor(column / f)];
    small.draw([["rect", { class: "frame", x: j, y: i, width: 1, height: 1 }]]);
    const value = (x) => (x / 255).toFixed(3);
    kit.say({
      pixel: `row ${row}, column ${column}`,
      image: value(image[row * side + column]),
      pooled: value(pooled[i * n + j]),
      enlarged: value(restored[row * side + column]),
      "mean error": at.errors[way.value].toFixed(4),
    });
  }
  show();
});
