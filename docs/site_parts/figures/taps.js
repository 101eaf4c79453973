segjax.figure("taps", (kit, data) => {
  const n = data.samples;
  const range = (low, high) => Array.from({ length: high - low + 1 }, (_, i) => low + i);
  const kernel = kit.slider("kernel", "kernel", range(1, 5), 3, show);
  const stride = kit.slider("stride", "stride", range(1, 4), 1, show);
  const dilation = kit.slider("dilation", "dilation", range(1, 4), 2, show);
  const padding = kit.slider("padding", "padding", range(0, 4), 2, show);
  let chosen = 3;
  const [WIDTH, LOW, HIGH] = [n + 9, 5.2, 0.6];
  const view = kit.view({
    width: WIDTH, height: 7, wide: true,
    label: "samples below and outputs above; left and right choose an output",
    move: (x) => { chosen = nearest(x); show(); },
    keys: (dx) => { chosen += dx; show(); },
  });
  const setting = () => data.settings[[kernel, stride, dilation, padding].map((x) => x.value).join("-")];
  // Outputs stand above the middle of their taps.
  const place = (first, extent) => 4.5 + first + extent / 2;
  function nearest(x) {
    const { first, extent } = setting();
    const away = first.map((start) => Math.abs(place(start, extent) - x));
    return Math.max(0, away.indexOf(Math.min(...away)));
  }
  function show() {
    const { first, extent, unread } = setting();
    chosen = kit.clamp(chosen, 0, Math.max(0, first.length - 1));
    const taps = first.length ? range(0, kernel.value - 1).map((k) => first[chosen] + k * dilation.value) : [];
    const shapes = [];
    for (let i = -padding.value; i < n + padding.value; i++) {
      const inside = i >= 0 && i < n;
      const kind = taps.includes(i) ? "tap" : inside ? "cell" : "empty";
      shapes.push(["rect", { class: kind, x: 4.5 + i + 0.06, y: LOW, width: 0.88, height: 0.88 }]);
      if (inside) shapes.push(["text", { x: 5 + i, y: LOW + 1.3, "font-size": 0.5 }, i]);
    }
    first.forEach((start, i) => {
      const x = place(start, extent);
      shapes.push(["rect", { class: i === chosen ? "chosen" : "cell", x: x - 0.44, y: HIGH, width: 0.88, height: 0.88 }]);
      if (i === chosen) for (const tap of taps) shapes.push(["line", { class: "line", x1: x, y1: HIGH + 0.9, x2: 5 + tap, y2: LOW }]);
    });
    view.draw(shapes);
    kit.say({
      outputs: first.length,
      extent,
      reads: taps.length ? taps.map((i) => (i < 0 || i >= n ? `(${i})` : i)).join(", ") : "the kernel does not fit",
      "samples that no output reads": unread,
    });
  }
  show();
});
