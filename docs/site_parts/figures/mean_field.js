segjax.figure("mean_field", (kit, data) => {
  const weight = kit.slider("weight", "weight of the pairs", data.weights, 1, show, (x) => x.toFixed(1));
  const step = kit.slider("step", "steps", data.courses[0].map((_, i) => i), 0, show);
  let [row, column] = [1, 1];
  const view = (title, acts) => kit.view({
    width: 3, height: 3, title, label: acts ? `${title}; the arrow keys choose a pixel` : title,
    ...(acts && {
      move: (x, y) => { [row, column] = [Math.floor(y), Math.floor(x)]; show(); },
      keys: (dx, dy) => { [row, column] = [kit.clamp(row + dy, 0, 2), kit.clamp(column + dx, 0, 2)]; show(); },
    }),
  });
  const image = view("image");
  const current = view("P(object), mean field", true);
  const exact = view("P(object), exact");
  const best = view("likeliest labelling");
  const filled = (values, text) => kit.cells(values, { text }).map(([tag, attributes, said], i) => {
    if (tag !== "rect") return [tag, { ...attributes, class: "on", "font-size": 0.3 }, said];
    const p = values.flat()[i / 2];
    return [tag, { ...attributes, class: "", fill: `hsl(204 75% ${Math.round(96 - 38 * p)}%)`, stroke: "#777" }];
  });
  image.draw(kit.cells(data.image, { text: () => "" }).filter(([tag]) => tag === "rect").map(([tag, attributes], i) =>
    [tag, { ...attributes, class: "", fill: data.image.flat()[i] ? "#fff" : "#000", stroke: "#777" }]));
  function show() {
    const at = data.weights.indexOf(weight.value);
    const course = data.courses[at];
    const p = course[step.value];
    const mark = ["rect", { class: "line", x: column + 0.04, y: row + 0.04, width: 0.92, height: 0.92 }];
    const number = (x) => x.toFixed(3);
    current.draw([...filled(p, number), mark]);
    exact.draw(filled(data.exact[at], number));
    best.draw(filled(data.best[at], String));
    const before = step.value ? course[step.value - 1] : p;
    kit.say({
      pixel: `row ${row}, column ${column}`,
      "P(object)": p[row][column].toFixed(4),
      exact: data.exact[at][row][column].toFixed(4),
      "largest change in this step": Math.max(...p.flat().map((x, i) => Math.abs(x - before.flat()[i]))).toFixed(4),
    });
  }
  show();
});
