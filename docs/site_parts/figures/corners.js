segjax.figure("corners", (kit, data) => {
  const sizes = Object.keys(data.edges).map(Number);
  const size = kit.slider("size", "pixels of the output", sizes, 9, show);
  const steps = Array.from({ length: 51 }, (_, i) => i);
  const inputs = data.values.map((value, i) => kit.slider(`value${i}`, `value ${i}`, steps, value, show));
  let chosen = 2;
  const [LEFT, STEP, TOP, HIGH] = [1, 2.6, 0.3, 3.6];
  const view = kit.view({
    width: 10, height: 5.4, wide: true,
    label: "values and interpolated values; left and right choose one of the output",
    move: (x) => {
      const away = places("edges").map((place) => Math.abs(LEFT + STEP * place - x));
      chosen = away.indexOf(Math.min(...away));
      show();
    },
    keys: (dx) => { chosen += dx; show(); },
  });
  // Where pixels of the output lie on the input, by the two formulas of the docstring.
  function places(rule) {
    const n = size.value;
    return steps.slice(0, n).map((i) => rule === "corners"
      ? (n > 1 ? (i * 3) / (n - 1) : 0) : Math.min(3, Math.max(0, ((i + 0.5) * 4) / n - 0.5)));
  }
  const y = (value) => TOP + HIGH * (1 - value / 50);
  function show() {
    chosen = kit.clamp(chosen, 0, size.value - 1);
    const values = inputs.map((input) => input.value);
    const found = {};
    const shapes = [["line", { class: "faint", x1: 0.4, y1: y(0), x2: 9.6, y2: y(0) }]];
    values.forEach((value, i) => shapes.push(
      ["line", { class: "faint", x1: LEFT + STEP * i, y1: y(0), x2: LEFT + STEP * i, y2: y(value) }],
      ["circle", { class: "ink", cx: LEFT + STEP * i, cy: y(value), r: 0.13 }]));
    for (const [rule, line, dot, row] of [["edges", "other", "otherdot", 4.5], ["corners", "line", "dot", 5.0]]) {
      const weights = data[rule][size.value];
      found[rule] = weights[0].map((_, j) => values.reduce((sum, value, i) => sum + value * weights[i][j], 0));
      const at = places(rule).map((place) => LEFT + STEP * place);
      if (size.value > 1) shapes.push(["path", { class: line, d: "M" + at.map((x, j) => `${x} ${y(found[rule][j])}`).join("L") }]);
      at.forEach((x, j) => shapes.push(
        ["circle", { class: dot, cx: x, cy: y(found[rule][j]), r: j === chosen ? 0.16 : 0.08 }],
        ["circle", { class: dot, cx: x, cy: row, r: j === chosen ? 0.16 : 0.08 }]));
    }
    view.draw(shapes);
    view.title("orange: corners stay in place; blue: edges do; below, where the pixels of the output lie");
    kit.say({
      pixel: chosen,
      "corners aligned": found.corners[chosen].toFixed(3),
      "edges aligned": found.edges[chosen].toFixed(3),
      apart: Math.abs(found.corners[chosen] - found.edges[chosen]).toFixed(3),
    });
  }
  show();
});
