/* What lies over the tissue: rings around the chosen location, names of the sides; and the picture to save. */

const MOST_LOOKED_AT = 20000; // locations that names of sides are kept off

class Overlay {
  constructor(element, tissue) {
    Object.assign(this, { element, tissue, chosen: null });
    this.rings = [0, 1].map(() => element.appendChild(document.createElement("i")));
    this.sides = tissue.sides.map(([, , name]) => {
      const label = element.appendChild(document.createElement("span"));
      label.textContent = name;
      return label;
    });
    this.sections = tissue.sections.map(([name]) => {
      const label = element.appendChild(document.createElement("span"));
      label.className = "section";
      label.textContent = name;
      return label;
    });
    tissue.onmove = () => this.place();
  }

  choose(location) {
    this.chosen = location;
    this.place();
  }

  /** Everything to where it belongs as the tissue lies now. */
  place() {
    const { tissue } = this, points = this.chosen === null ? [] : tissue.points([this.chosen]);
    const [across, down, near] = points.length ? tissue.project(points) : [[], [], []];
    this.rings.forEach((ring, i) => {
      ring.hidden = i >= across.length;
      if (ring.hidden) return;
      const size = Math.max(16, tissue.size + 8);
      Object.assign(ring.style, { left: `${across[i]}px`, top: `${down[i]}px`, width: `${size}px`, height: `${size}px` });
      ring.classList.toggle("behind", tissue.solid && near[i] < -tissue.size);
    });
    const middles = tissue.sections.map(([, place]) => place);
    const [left, top] = tissue.project([0, 1, 2].map((i) => middles.map((each) => each[i])));
    this.sections.forEach((label, i) => Object.assign(label.style, { left: `${left[i]}px`, top: `${top[i] - tissue.size / 2 - 9}px` }));
    if (!tissue.solid) return;
    const ends = tissue.sides.map(([axis, sign]) => tissue.centre.map((each, i) => (i === axis ? each + sign * (tissue.extent[i] / 2 + 0.2 * tissue.spacing) : each)));
    const [x, y, depth] = tissue.project([0, 1, 2].map((i) => ends.map((end) => end[i])));
    const { clientWidth: width, clientHeight: height } = tissue.element;
    const [xs, ys] = tissue.n > MOST_LOOKED_AT ? [[], []] : tissue.project(tissue.points()), reach = tissue.size / 2 + 2;
    const covers = (left, top, half) => xs.some((each, i) => Math.abs(each - left) < half + reach && Math.abs(ys[i] - top) < 8 + reach);
    this.sides.forEach((label, i) => {
      // A side that is seen head on, or whose end is behind the tissue, has no place for its name.
      const half = label.offsetWidth / 2 + 2, hidden = Math.abs(depth[i]) > 0.7 * (tissue.extent[tissue.sides[i][0]] / 2) * tissue.pixels() / tissue.spacing;
      // A name lies outside of its end: by half of its own length where that end points to the left or right.
      const aside = [x[i] - width / 2, y[i] - height / 2], away = (half * aside[0]) / (Math.hypot(...aside) || 1);
      let left = x[i] + away, top = y[i];
      const length = Math.hypot(...aside) || 1, inside = () => left > half && left < width - half && top > 9 && top < height - 9;
      // Outward until it lies beside the tissue; a name for which there is no room is not shown.
      if (!hidden) for (let step = 0; step < 8 && inside() && covers(left, top, half); step++) { left += (9 * aside[0]) / length; top += (9 * aside[1]) / length; }
      if (left <= half && left > -half) left = half + 1;
      if (left >= width - half && left < width + half) left = width - half - 1;
      const shown = !hidden && inside() && !covers(left, top, half);
      Object.assign(label.style, { left: `${left}px`, top: `${top}px`, opacity: shown ? 1 : 0 });
    });
  }

  /** A PNG of the tissue as it lies, with its name and the colour bar, or the names of categories. */
  async save(name, what, { ends: [low, high], scale, unit, groups }) {
    const { element } = this.tissue, width = element.clientWidth, height = element.clientHeight, head = 46, foot = 44;
    const image = new Image();
    image.src = await Plotly.toImage(element, { format: "png", width, height, scale: 2 });
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * (height + head + foot) });
    const draw = canvas.getContext("2d");
    draw.scale(2, 2);
    draw.fillStyle = "#fff";
    draw.fillRect(0, 0, width, height + head + foot);
    draw.drawImage(image, 0, head, width, height);
    draw.fillStyle = "#1d2529";
    draw.font = "italic 600 22px system-ui, sans-serif";
    draw.fillText(name, 16, 32);
    const after = 16 + draw.measureText(name).width + 10;
    draw.font = "14px system-ui, sans-serif";
    draw.fillText(what, after, 32);
    const top = head + height + 12;
    if (groups) {
      let at = 16;
      for (const [text, colour] of groups) {
        draw.fillStyle = colour;
        draw.fillRect(at, top, 12, 12);
        draw.fillStyle = "#1d2529";
        draw.fillText(text, at + 17, top + 11);
        at += 32 + draw.measureText(text).width;
      }
      return download(canvas, `${name}_${what}`);
    }
    const bar = 180, start = 24 + draw.measureText(low).width;
    const gradient = draw.createLinearGradient(start, 0, start + bar, 0);
    for (const [at, colour] of scale) gradient.addColorStop(at, colour);
    draw.fillText(low, 16, top + 12);
    draw.fillText(`${high}   ${unit}`, start + bar + 8, top + 12);
    draw.fillStyle = gradient;
    draw.fillRect(start, top, bar, 14);
    return download(canvas, `${name}_${what}`);
  }
}

/** Hand a picture to the person. */
function download(canvas, name) {
  const link = Object.assign(document.createElement("a"), { href: canvas.toDataURL("image/png"), download: `${name}.png`.replaceAll(/[^\w.-]+/g, "_") });
  link.click();
  return link.href;
}
