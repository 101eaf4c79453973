segjax.figure("crf", (kit, data) => {
  const side = data.side;
  const names = ["alpha: pixels of like colour", "beta: likeness of colours", "gamma: smoothing, pixels"];
  const first = [10, 20, 3];
  const widths = data.widths.map((values, i) => kit.slider(["alpha", "beta", "gamma"][i], names[i], values, first[i], show));
  const options = { width: side, height: side, pixels: true };
  const image = kit.view({ ...options, label: "image", title: "image" });
  const alone = kit.view({ ...options, label: "probabilities of the network", title: "P(object), each pixel alone" });
  const refined = kit.view({ ...options, label: "refined probabilities", title: "P(object), refined" });
  const [colors, before] = [kit.bytes(data.image), kit.bytes(data.alone.p)];
  image.paint((i) => [colors[3 * i], colors[3 * i + 1], colors[3 * i + 2]]);
  alone.paint((i) => kit.gray(before[i]));
  function show() {
    const at = data.settings[widths.map((width) => width.value).join("-")];
    const p = kit.bytes(at.p);
    refined.paint((i) => kit.gray(p[i]));
    kit.say({
      "mean IoU alone": data.alone.iou.toFixed(4),
      "mean IoU refined": at.iou.toFixed(4),
      "pixels called object": p.filter((x) => x > 127).length,
    });
  }
  show();
});
