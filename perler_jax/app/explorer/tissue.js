/* The tissue on the page, drawn by plotly: colours, views, the other half, what lies under a click. */

const vector = ([x, y, z]) => ({ x, y, z });
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = (a) => a.map((each) => each / Math.hypot(...a));
const subtract = (a, b) => a.map((each, i) => each - b[i]);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

const NAMES = 74; // pixels on either side of the tissue, for the names of its sides

class Tissue {
  /** `mirror`: axis along which a half is mirrored, or null where all is given. `names`: of the locations. */
  constructor(element, coordinates, { dimensions, spacing, mirror, views, sides, sections, names, scales, still = false }) {
    const half = mirror !== null;
    Object.assign(this, { element, coordinates, dimensions, spacing, mirrored: mirror, half, views, sides, sections, names, scales, still });
    this.n = coordinates.length / dimensions;
    this.both = half;
    this.solid = dimensions === 3;
    this.values = null;
    this.onchoose = () => {};
    this.onmove = () => {};
  }

  /** Coordinates as drawn, one array per dimension. A half along y is drawn on the near side of a lateral view,
      where low x is left, as right and left count as alike. */
  points(rows = null) {
    const index = rows ?? [...Array(this.n).keys()];
    return [...Array(this.dimensions).keys()].map((axis) => {
      const flip = axis === 1 && this.mirrored === 1 ? -1 : 1;
      const one = index.map((row) => flip * this.coordinates[row * this.dimensions + axis]);
      return this.both ? one.concat(axis === this.mirrored ? one.map((value) => -value) : one) : one;
    });
  }

  twice(values) {
    return this.both ? [...values, ...values] : [...values];
  }

  async start() {
    const [x, y, z] = this.points();
    const extents = [x, y, z].filter(Boolean).map((each) => each.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]));
    if (this.half) {
      const most = Math.max(...extents[this.mirrored].map(Math.abs));
      extents[this.mirrored] = [-most, most];
    }
    this.centre = extents.map(([low, high]) => (low + high) / 2);
    this.extent = extents.map(([low, high]) => high - low + 3 * this.spacing);
    this.reach = Math.max(...this.extent) / 2;
    const type = this.solid ? "scatter3d" : "scattergl";
    const shared = { type, mode: "markers", showlegend: false };
    const cells = { ...shared, hovertemplate: "%{text}<extra></extra>", marker: { line: { width: 0 }, opacity: 1 } };
    await Plotly.newPlot(this.element, [{ ...cells, x, y, ...(z && { z }) }], this.layout(), {
      displayModeBar: false, scrollZoom: !this.still, responsive: false, doubleClick: false,
    });
    this.listen();
    this.element.on("plotly_relayout", () => { this.resizeDots(); this.onmove(); });
    this.element.on("plotly_relayouting", () => this.onmove());
    new ResizeObserver(() => this.fit()).observe(this.element);
    await this.fit();
  }

  /** A click is a press and a release at one place; what lies between them elsewhere is a rotation. */
  listen() {
    let pressed = null;
    this.element.addEventListener("pointerdown", (event) => { pressed = event.isPrimary ? [event.clientX, event.clientY] : null; }, true);
    window.addEventListener("pointerup", (event) => {
      if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 4) return;
      const box = this.element.getBoundingClientRect();
      const found = this.at(event.clientX - box.left, event.clientY - box.top);
      if (found !== null) this.onchoose(found);
    }, true);
  }

  /** Where points are on the page: pixels from the left, from the top, and how near the viewer. */
  project([x, y, z]) {
    const { clientWidth: width, clientHeight: height } = this.element, layout = this.element._fullLayout;
    if (!this.solid) return [x.map((each) => layout.xaxis.d2p(each)), y.map((each) => layout.yaxis.d2p(each)), x.map(() => 0)];
    const camera = layout.scene._scene.getCamera(), of = (v) => [v.x, v.y, v.z];
    const near = unit(subtract(of(camera.eye), of(camera.center))), right = unit(cross(of(camera.up), near)), up = cross(near, right);
    const scale = (layout.scene.aspectratio.x * height) / (4 * this.reach), middle = of(camera.center).map((each) => (each * height) / 2);
    const along = (axis, shift) => x.map((_, i) => {
      const place = [x[i], y[i], z[i]].map((each, j) => (each - this.centre[j]) * scale - shift * middle[j]);
      return dot(place, axis);
    });
    return [along(right, 1).map((each) => width / 2 + each), along(up, 1).map((each) => height / 2 - each), along(near, 0)];
  }

  /** The location drawn at a place of the page, on the side that faces the viewer; null beside the tissue. */
  at(left, top) {
    const [across, down, near] = this.project(this.points());
    const away = across.map((each, i) => Math.hypot(each - left, down[i] - top));
    const under = [...away.keys()].filter((i) => away[i] <= this.size);
    const front = under.reduce((most, i) => Math.max(most, near[i]), -Infinity) - 2 * this.size;
    const best = under.filter((i) => near[i] >= front).reduce((a, b) => (a < 0 || away[b] < away[a] ? b : a), -1);
    return best < 0 ? null : best % this.n;
  }

  layout() {
    const bare = { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", uirevision: 1, hoverlabel: { font: { size: 13 } } };
    if (!this.solid) {
      const axis = { visible: false, zeroline: false };
      return { ...bare, dragmode: this.still ? false : "pan", xaxis: axis, yaxis: { ...axis, scaleanchor: "x" } };
    }
    const axis = (i) => ({ visible: false, showspikes: false, range: [this.centre[i] - this.reach, this.centre[i] + this.reach] });
    const camera = { projection: { type: "orthographic" }, eye: vector(this.views[0].eye), up: vector(this.views[0].up), center: vector([0, 0, 0]) };
    return { ...bare, scene: { xaxis: axis(0), yaxis: axis(1), zaxis: axis(2), aspectmode: "manual", aspectratio: vector([1, 1, 1]), dragmode: this.still ? false : "orbit", camera } };
  }

  /** The tissue as large as its place on the page allows. */
  async fit() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    await Plotly.relayout(this.element, { width, height });
    if (this.solid) {
      // An orthographic scene shows two units of its aspect ratio from top to bottom, whatever the camera.
      const beside = Math.max(0.55 * width, width - 2 * NAMES), across = (2 * beside) / height, up = (1.7 * 2 * this.reach) / Math.max(this.extent[1], this.extent[2]);
      const size = Math.min(across, up);
      await Plotly.relayout(this.element, { "scene.aspectratio": vector([size, size, size]) });
    } else {
      const [x, y] = this.extent, scale = Math.max(x / width, y / (height - (this.sections.length ? 40 : 0)));
      const around = (i, pixels) => [this.centre[i] - (scale * pixels) / 2, this.centre[i] + (scale * pixels) / 2];
      await Plotly.relayout(this.element, { "xaxis.range": around(0, width), "yaxis.range": around(1, height) });
    }
  }

  /** Pixels from one location to the next. */
  pixels() {
    const layout = this.element._fullLayout;
    if (!this.solid) return (this.spacing * this.element.clientWidth) / (layout.xaxis.range[1] - layout.xaxis.range[0]);
    return (this.spacing * layout.scene.aspectratio.x * this.element.clientHeight) / (4 * this.reach);
  }

  /** Dots that overlap a little, as large on tissue at every zoom. */
  resizeDots() {
    const size = Math.max(2, Math.round(this.pixels() * 1.3 * 10) / 10);
    if (size === this.size) return;
    this.size = size;
    Plotly.restyle(this.element, { "marker.size": size }, [0]);
  }

  show(values, [low, high], scale, label) {
    this.values = values;
    const text = Array.from(values, (value, i) => `${this.names(i)}<br>${label}: ${Number.isFinite(value) ? value.toFixed(2) : "not known"}`);
    const colours = this.twice(Array.from(values, (value) => (Number.isFinite(value) ? value : null)));
    const update = { "marker.color": [colours], "marker.cmin": low, "marker.cmax": high, "marker.colorscale": [this.scales[scale]], text: [this.twice(text)] };
    return Plotly.restyle(this.element, update, [0]);
  }

  /** Categories: the colour of each location's text; grey where it has none. */
  showGroups(texts, colours, label) {
    this.values = null;
    const text = texts.map((each, i) => `${this.names(i)}<br>${label}: ${each || "not known"}`);
    const update = { "marker.color": [this.twice(texts.map((each) => colours[each] ?? "#d5d9da"))], text: [this.twice(text)] };
    return Plotly.restyle(this.element, update, [0]);
  }

  /** Seen as another tissue is. */
  follow(other) {
    const layout = other.element._fullLayout;
    if (!this.solid) return Plotly.relayout(this.element, { "xaxis.range": [...layout.xaxis.range], "yaxis.range": [...layout.yaxis.range] });
    const camera = layout.scene._scene.getCamera(), size = layout.scene.aspectratio.x;
    return Plotly.relayout(this.element, { "scene.camera": camera, "scene.aspectratio": vector([size, size, size]) });
  }

  view(name) {
    const { eye, up } = this.views.find((each) => each.name === name);
    return Plotly.relayout(this.element, { "scene.camera.eye": vector(eye), "scene.camera.up": vector(up), "scene.camera.center": vector([0, 0, 0]) });
  }

  /** Rotate by so many degrees to the right and upward, about the screen. */
  rotate(right, up) {
    const camera = this.element._fullLayout.scene._scene.getCamera();
    const of = ({ x, y, z }) => [x, y, z];
    const turn = (v, axis, degrees) => {
      const c = Math.cos((degrees * Math.PI) / 180), s = Math.sin((degrees * Math.PI) / 180), w = cross(axis, v);
      return v.map((each, i) => each * c + w[i] * s + axis[i] * dot(axis, v) * (1 - c));
    };
    let eye = of(camera.eye), top = unit(of(camera.up));
    eye = turn(eye, top, -right);
    const side = unit(cross(top, eye));
    [eye, top] = [turn(eye, side, -up), turn(top, side, -up)];
    return Plotly.relayout(this.element, { "scene.camera.eye": vector(eye), "scene.camera.up": vector(top) });
  }

  async mirror(both) {
    if (!this.half || both === this.both) return;
    this.both = both;
    const [x, y, z] = this.points();
    await Plotly.restyle(this.element, { x: [x], y: [y], z: [z] }, [0]);
  }
}
