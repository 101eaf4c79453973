segjax.figure("transposed", (kit, data) => {
  const stride = kit.slider("stride", "stride", [1, 2, 3], 2, show);
  const padding = kit.slider("padding", "padding: rows cropped from each side", [0, 1], 0, show);
  const added = kit.slider("added", "output padding", [0, 1, 2], 0, show);
  const step = kit.slider("step", "stamps", [0, 1, 2, 3, 4], 2, show);
  let [row, column] = [2, 2];
  const left = kit.view({ width: 6.4, height: 3.6, label: "input and kernel", title: "input, and kernel" });
  const output = kit.view({
    width: 5, height: 5, label: "output; the arrow keys choose a number of it", title: "output",
    move: (x, y) => choose(Math.floor(y), Math.floor(x)),
    keys: (dx, dy) => choose(row + dy, column + dx),
  });
  const stamps = () => data.settings[`${stride.value}-${padding.value}-${Math.min(added.value, stride.value - 1)}`];
  function choose(i, j) { [row, column] = [i, j]; show(); }
  function show() {
    added.value = Math.min(added.value, stride.value - 1);
    const parts = stamps();
    const side = parts[0].length;
    [row, column] = [kit.clamp(row, 0, side - 1), kit.clamp(column, 0, side - 1)];
    const done = parts.slice(0, step.value);
    const total = parts[0].map((line, i) => line.map((_, j) => done.reduce((sum, part) => sum + part[i][j], 0)));
    const last = done.at(-1);
    left.draw([
      ...kit.cells(data.input, { left: 0.1, top: 0.7, kind: (i, j) => (2 * i + j === step.value - 1 ? "tap" : "cell") }),
      ["text", { x: 2.6, y: 1.7, "font-size": 0.6 }, "*"],
      ...kit.cells(data.kernel, { left: 3.2, top: 0.2 }),
    ]);
    output.resize(side, side);
    output.draw(kit.cells(total, {
      kind: (i, j) => (i === row && j === column ? "chosen" : last && last[i][j] ? "tap" : "cell"),
    }));
    // Where each stamp begins, and which number of the kernel lies on the chosen pixel.
    const terms = data.input.flat().slice(0, step.value).flatMap((value, at) => {
      const k = data.kernel[row - (Math.floor(at / 2) * stride.value - padding.value)]?.[column - ((at % 2) * stride.value - padding.value)];
      return k === undefined ? [] : [`${value} x ${k}`];
    });
    kit.say({
      "output side": side,
      [`row ${row}, column ${column}`]: terms.length ? `${terms.join(" + ")} = ${total[row][column]}` : "0, nothing lands there",
      value: total[row][column],
      sum: total.flat().reduce((a, b) => a + b, 0),
    });
  }
  show();
});
