segjax.figure("fields", (kit, data) => {
  const side = data.side;
  const image = kit.bytes(data.image);
  const names = Object.keys(data.networks);
  const network = kit.choice("network", "network", names, show);
  network.value = names.at(-1);
  let [row, column] = [side / 2, side / 2];
  const label = "image; the arrow keys move the output pixel whose field is shown";
  const seen = kit.view({
    width: side, height: side, label, pixels: true, title: "what the pixel sees",
    move: (x, y) => { [row, column] = [Math.floor(y), Math.floor(x)]; show(); },
    keys: (dx, dy, fast) => {
      row = kit.clamp(row + dy * (fast ? 8 : 1), 0, side - 1);
      column = kit.clamp(column + dx * (fast ? 8 : 1), 0, side - 1);
      show();
    },
  });
  const middle = kit.view({ width: side, height: side, pixels: true, label: "gradient of the middle pixel", title: "how much, for the middle pixel" });
  seen.paint((i) => kit.gray(image[i]));
  function show() {
    const at = data.networks[network.value];
    const [top, bottom] = at.rows[row];
    const [left, right] = at.columns[column];
    const hole = `M0 0H${side}V${side}H0ZM${left} ${top}V${bottom}H${right}V${top}Z`;
    seen.draw([
      ["path", { class: "dim", d: hole, "fill-rule": "evenodd" }],
      ["rect", { class: "frame", x: left, y: top, width: right - left, height: bottom - top }],
      ["rect", { class: "dot", x: column, y: row, width: 1, height: 1 }],
    ]);
    const gradient = kit.bytes(at.middle);
    middle.paint((i) => (gradient[i] ? kit.heat(gradient[i]) : [90, 96, 104]));
    kit.say({
      pixel: `row ${row}, column ${column}`,
      rows: `${top} to ${bottom - 1}`,
      columns: `${left} to ${right - 1}`,
      sees: `${bottom - top} x ${right - left}`,
      "of the image": `${((100 * (bottom - top) * (right - left)) / side ** 2).toFixed(1)} %`,
    });
  }
  show();
});
