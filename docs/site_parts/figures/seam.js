segjax.figure("seam", (kit, data) => {
  const steps = Object.keys(data.steps).map(Number);
  const step = kit.slider("step", "step of the tiles, pixels", steps, 68, show);
  const { width, height } = data;
  const options = { width, height, pixels: true, wide: true };
  const image = kit.view({ ...options, label: "strip of nuclei with the borders of tiles", title: "image, with the tiles" });
  const whole = kit.view({ ...options, label: "probability of nuclei", title: "P(nucleus) of the whole" });
  const difference = kit.view({ ...options, label: "difference of tiled and whole", title: "difference of the tiled prediction, from 10⁻⁶ (black) to 1" });
  const [pixels, p] = [kit.bytes(data.image), kit.bytes(data.whole)];
  image.paint((i) => kit.gray(pixels[i]));
  whole.paint((i) => kit.gray(p[i]));
  function show() {
    const at = data.steps[step.value];
    const shown = kit.bytes(at.difference);
    difference.paint((i) => kit.heat(shown[i]));
    const starts = [];
    for (let start = 0; start < width - data.tile; start += step.value) starts.push(start);
    starts.push(width - data.tile);
    const lines = starts.slice(1).map((x) => ["line", { class: "line", x1: x, y1: 0, x2: x, y2: height }]);
    image.draw(lines);
    kit.say({
      "step modulo 16": step.value % data.stride,
      tiles: starts.length,
      "largest difference": at.largest < 1e-4 ? at.largest.toExponential(1) : at.largest.toFixed(3),
      "pixels changed by more than 0.01": at.changed,
    });
  }
  show();
});
