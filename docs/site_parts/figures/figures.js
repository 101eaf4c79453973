/* What the interactive figures share: controls, views, readouts. Each figure adds
   segjax.figure(NAME, (kit, data) => ...); its data, made by segjax, are in NAME.data.js. */
window.segjax = (() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  let count = 0;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function shape([tag, attributes, text]) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const gray = (value) => [value, value, value];
  const STOPS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  function heat(value) {
    const place = (value / 255) * (STOPS.length - 1);
    const low = Math.min(Math.floor(place), STOPS.length - 2);
    return STOPS[low].map((x, i) => x + (STOPS[low + 1][i] - x) * (place - low));
  }

  class Kit {
    constructor(host, name) {
      this.name = name;
      this.controls = element("div", { class: "play-controls" });
      this.views = element("div", { class: "play-views" });
      this.said = element("dl", { class: "play-said", "aria-live": "polite" });
      host.append(this.controls, this.views, this.said);
      Object.assign(this, { bytes, clamp, gray, heat });
    }

    control(key, label, input, shown) {
      const id = `play-${this.name}-${key}-${++count}`;
      input.id = id;
      input.dataset.key = key;
      const line = element("div", {}, element("label", { for: id }, label), input);
      if (shown) line.append(shown);
      this.controls.append(line);
      return input;
    }

    /* A slider over the entries of `values`; what it holds is `values[number]`. */
    slider(key, label, values, first, changed, show = String) {
      const number = values.indexOf(first);
      const input = element("input", { type: "range", min: 0, max: values.length - 1, step: 1, value: number });
      const shown = element("output", {});
      const made = {
        get value() { return values[Number(input.value)]; },
        set value(wanted) { input.value = values.indexOf(wanted); made.show(); },
        show() {
          shown.textContent = show(made.value);
          input.setAttribute("aria-valuetext", shown.textContent);
        },
      };
      input.addEventListener("input", () => { made.show(); changed(); });
      this.control(key, label, input, shown);
      made.show();
      return made;
    }

    choice(key, label, options, changed) {
      const input = element("select", {});
      input.append(...options.map((option) => element("option", { value: option }, option)));
      input.addEventListener("input", () => changed());
      return this.control(key, label, input);
    }

    /* A place to draw: pixels below where `pixels` is set, shapes above, in units of its own. With
       `move` it follows the pointer, with `keys` the arrow keys. */
    view({ width, height, label, title = "", pixels = false, move, keys, drag = false, wide = false }) {
      const acts = Boolean(move || keys);
      const box = element("div", { class: "play-view", role: acts ? "application" : "img", "aria-label": label });
      box.style.aspectRatio = `${width} / ${height}`;
      const svg = document.createElementNS(SVG, "svg");
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("aria-hidden", "true");
      let canvas;
      if (pixels) box.append((canvas = element("canvas", { width, height, "aria-hidden": "true" })));
      box.append(svg);
      if (acts) box.tabIndex = 0;
      if (drag) box.style.touchAction = "none";
      const place = (event) => {
        const frame = box.getBoundingClientRect();
        return [((event.clientX - frame.left) / frame.width) * width, ((event.clientY - frame.top) / frame.height) * height];
      };
      if (move) {
        const follow = (kind) => (event) => {
          if (kind === "down" && drag) box.setPointerCapture(event.pointerId);
          const [x, y] = place(event);
          move(clamp(x, 0, width - 1e-6), clamp(y, 0, height - 1e-6), kind === "down", event.buttons > 0);
        };
        box.addEventListener("pointerdown", follow("down"));
        box.addEventListener("pointermove", follow("move"));
      }
      if (keys) {
        const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        box.addEventListener("keydown", (event) => {
          if (!(event.key in STEPS)) return;
          event.preventDefault();
          keys(...STEPS[event.key], event.shiftKey);
        });
      }
      const caption = element("figcaption", {}, title);
      const frame = element("figure", { class: wide ? "play-panel play-wide" : "play-panel" }, box, caption);
      this.views.append(frame);
      return {
        box,
        title: (text) => { caption.textContent = text; },
        draw: (shapes) => svg.replaceChildren(...shapes.map(shape)),
        resize: (w, h) => {
          [width, height] = [w, h];
          svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
          box.style.aspectRatio = `${w} / ${h}`;
          if (canvas) [canvas.width, canvas.height] = [w, h];
        },
        paint: (color) => {
          const context = canvas.getContext("2d");
          const image = context.createImageData(width, height);
          for (let i = 0; i < width * height; i++) image.data.set([...color(i), 255], 4 * i);
          context.putImageData(image, 0, 0);
        },
      };
    }

    /* The numbers below: names, and what each is now. */
    say(values) {
      const lines = Object.entries(values).map(([name, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", { "data-said": name }, String(value))));
      this.said.replaceChildren(...lines);
    }
  }

  /* Squares with numbers in them, `fill(i, j)` saying the class of each. */
  function cells(values, { left = 0, top = 0, side = 1, size = 0.42, kind = () => "cell", text = (x) => x } = {}) {
    const strong = (name) => (["tap", "chosen"].includes(name) ? "on" : "");
    return values.flatMap((row, i) => row.flatMap((value, j) => [
      ["rect", { class: kind(i, j), x: left + j * side, y: top + i * side, width: side, height: side }],
      ["text", { x: left + (j + 0.5) * side, y: top + (i + 0.5) * side, "font-size": size * side, class: strong(kind(i, j)) }, text(value, i, j)],
    ]));
  }

  function figure(name, build) {
    for (const host of document.querySelectorAll(`[data-play="${name}"]`)) {
      const stage = element("div", { class: "play-stage" });
      const kit = new Kit(stage, name);
      kit.cells = cells;
      build(kit, segjax.data[name]);
      host.querySelector(".play-still").replaceWith(stage);
      host.dataset.ready = "true";
    }
  }

  return { data: {}, figure };
})();
