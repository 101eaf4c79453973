segjax.figure("confusion", (kit, data) => {
  const side = data.side;
  const n = data.classes.length;
  const stride = kit.slider("stride", "output stride", Object.keys(data.strides).map(Number), 8, show);
  const label = kit.bytes(data.label);
  let [truth, answer] = [2, 0];
  const options = { width: side, height: side, pixels: true };
  const left = kit.view({ ...options, label: "true classes", title: "label" });
  const right = kit.view({ ...options, label: "classes that were given", title: "answer" });
  const matrix = kit.view({
    width: n + 1.4, height: n + 0.7, label: "confusion matrix; the arrow keys choose a number",
    title: "rows: true class; columns: given class",
    move: (x, y, down) => { if (down) choose(Math.floor(y - 0.6), Math.floor(x - 1.3)); },
    keys: (dx, dy) => choose(truth + dy, answer + dx),
  });
  function choose(i, j) { [truth, answer] = [kit.clamp(i, 0, n - 1), kit.clamp(j, 0, n - 1)]; show(); }
  function show() {
    const at = data.strides[stride.value];
    const given = kit.bytes(at.answer);
    let lit = 0;
    const painted = (classes) => (i) => {
      const chosen = label[i] === truth && given[i] === answer;
      lit += chosen;
      return data.colors[classes[i]].map((x) => (chosen ? 255 - 0.1 * (255 - x) : 0.55 * x));
    };
    left.paint(painted(label));
    lit = 0;
    right.paint(painted(given));
    const names = data.classes.flatMap((name, i) => [
      ["text", { x: 0.64, y: 1.1 + i, "font-size": 0.3 }, name],
      ["text", { x: 1.8 + i, y: 0.3, "font-size": 0.3 }, name],
    ]);
    const kind = (i, j) => (i === truth && j === answer ? "chosen" : i === j ? "tap" : "cell");
    matrix.draw([...names, ...kit.cells(at.counts, { left: 1.3, top: 0.6, size: 0.3, kind })]);
    kit.say({
      "true class": data.classes[truth],
      "given class": data.classes[answer],
      "lit pixels": lit,
      [`IoU of ${data.classes[truth]}`]: at.iou[truth].toFixed(4),
      "mean IoU": at.mean_iou.toFixed(4),
    });
  }
  show();
});
