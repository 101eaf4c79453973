segjax.figure("anchors", (kit, data) => {
  const STEPS = ["anchors", "boxes", "boxes above the score", "after suppression"];
  const step = kit.slider("step", "step", STEPS, STEPS[3], show);
  const thresholds = Object.keys(data.kept);
  const least = kit.slider("score", "least score", thresholds, "0.3", show);
  const iou = kit.slider("iou", "IoU above which the worse goes", thresholds, "0.5", show);
  const view = kit.view({ width: data.size, height: data.size, label: "objects and boxes", title: "grey: objects; orange: boxes" });
  const rect = (kind) => ([y0, x0, y1, x1]) => ["rect", { class: kind, x: x0, y: y0, width: x1 - x0, height: y1 - y0 }];
  const filled = ([y0, x0, y1, x1]) => ["rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, fill: "#999", "fill-opacity": 0.45 }];
  function show() {
    const all = data.boxes.map((_, i) => i);
    const above = all.filter((i) => data.scores[i] >= Number(least.value));
    const kept = data.kept[least.value][iou.value];
    const at = STEPS.indexOf(step.value);
    const shown = [all, all, above, kept][at];
    const boxes = at ? data.boxes : data.anchors;
    view.draw([
      ...data.objects.map(filled),
      ...shown.map((i) => rect(at > 1 ? "line" : "faint")(boxes[i])),
      ...(at === 3 ? kept.map((i) => ["text", { x: boxes[i][1] + 8, y: boxes[i][0] + 5, "font-size": 6 }, data.scores[i].toFixed(2)]) : []),
    ]);
    kit.say({
      shown: shown.length,
      "above the score": above.length,
      kept: kept.length,
      objects: data.objects.length,
    });
  }
  show();
});
