/* The page as a whole: what is shown is in `state`; every change of it goes through `update`. */

const state = { gene: 0, quantity: 0, column: null, percentiles: false, place: null, way: "z", beside: null };
const explorer = { state, ready: false };
window.explorer = explorer; // for tests and for the curious

async function startPage() {
  if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old to unpack the page: use one from 2023 or later.");
  const page = JSON.parse(byId("page-data").textContent);
  const program = document.createElement("script");
  program.textContent = new TextDecoder().decode(await inflate(page.plotly.id));
  document.head.append(program);

  const [{ genes, coordinates, ...optional }, packed] = await Promise.all([loadAll(page.arrays), Promise.all(page.patterns.map((each) => loadAll(each.arrays)))]);
  const patterns = packed.map((arrays) => new Patterns(arrays));
  const unpack = (records) => Promise.all(records.map(async (record) => {
    const [values, texts, lower, upper] = await Promise.all([record.array, record.texts, record.lower, record.upper].map((each) => each && load(each)));
    return { ...record, values, texts, lower, upper };
  }));
  const [columns, facts] = await Promise.all([unpack(page.columns), unpack(page.places)]);
  const factors = await Promise.all(page.quantities.map(({ factor }) => (typeof factor === "object" ? load(factor) : factor)));
  const nameOf = (location) => optional.locations?.[location] ?? `location ${location + 1}`;
  const tissue = new Tissue(byId("tissue"), coordinates, { ...page.tissue, names: nameOf, scales: page.scales });

  const overlay = new Overlay(byId("overlay"), tissue);
  const maps = page.maps && (await loadAll(page.maps.arrays));
  const mapOf = new Map(Array.from(maps?.genes ?? [], (gene, i) => [gene, i]));
  if (!maps) document.querySelectorAll(".maps").forEach((each) => each.remove());
  let second = null; // the tissue with the map, made when it is first asked for

  /** Values of a quantity: its own patterns, or one quantity, if any, plus a multiple of another. */
  const valuesOf = (quantity, gene) => {
    const { patterns: own, of } = page.quantities[quantity];
    if (own !== undefined) return patterns[own].values(gene);
    const step = valuesOf(of.at(-1), gene), base = of.length > 1 && valuesOf(of[0], gene);
    const factor = typeof factors[quantity] === "number" ? factors[quantity] : factors[quantity][gene];
    return step.map((each, i) => (base ? base[i] : 0) + factor * each);
  };

  const orders = { name: {}, "strength of pattern": { scores: patterns[0].spread } };
  const flags = columns.find(({ kind }) => kind === "badge"), said = (name) => columns.find((each) => each.name === name)?.values;
  const flagOf = (gene) => (flags ? flags.texts[flags.values[gene]] : "");
  if (flags) {
    const nested = said("score_nested"), predicted = said("predicted"), steps = { good: 4, doubtful: 2, poor: 0 };
    const expected = Float32Array.from(genes, (_, gene) => (Number.isFinite(nested?.[gene]) ? nested[gene] : predicted?.[gene] ?? NaN));
    const scores = expected.map((each, gene) => (steps[flagOf(gene)] ?? -2) + (Number.isFinite(each) ? each : -1));
    orders.reliability = { scores, shown: expected, marks: flagOf };
  }
  for (const { kind, label, values: scores, ascending } of columns) if (kind === "number") orders[label] = { scores, ascending };
  const search = new Search(byId("query"), byId("matches"), byId("order"), genes, orders);
  if (flags) {
    byId("order").value = "reliability";
    search.sort();
    const count = (word) => genes.reduce((n, _, gene) => n + (flagOf(gene) === word), 0);
    showBelief(["good", "doubtful", "poor"].map((word) => [word, count(word)]), (word) => {
      search.only = word && ((gene) => flagOf(gene) === word);
      if (word) byId("query").focus();
    });
  }

  /** A column of the locations, as texts where it holds categories. */
  const textsOf = ({ kind, texts, values }) => (kind === "flag" ? Array.from(values, (each) => (each ? "yes" : "no")) : Array.from(values, (each) => texts[each]));
  const shades = facts.filter(({ kind, colours }) => kind === "number" || colours);
  shades.forEach(({ label }, i) => byId("colour").add(new Option(label, i)));
  if (shades.length) byId("colour-label").hidden = false;
  byId("colour").add(new Option("the gene", ""), 0);
  byId("colour").value = "";

  const placeOf = (location) => {
    if (location === null) return null;
    const z = patterns[0].zscores(location), { spread } = patterns[0];
    const scores = state.way === "z" ? z : z.map((each, g) => each * spread[g]);
    const there = page.quantities.map((each, i) => [each.label, tell(valuesOf(i, state.gene)[location])]);
    for (const column of facts) {
      const value = column.values[location];
      there.push([column.label, column.texts ? column.texts[value] : column.kind === "flag" ? (value ? "yes" : "no") : tell(value)]);
    }
    const { dimensions } = page.tissue, { top, shares, cells } = optional;
    const at = Array.from((optional.own ?? coordinates).subarray(location * dimensions, (location + 1) * dimensions), (each) => each.toFixed(1));
    const n = top && top.length / tissue.n;
    return {
      name: nameOf(location), at: `at ${at.join(", ")}`, facts: there, way: state.way, unit: page.short_unit,
      genes: largest(scores, 12).map((gene) => ({ gene, name: genes[gene], value: scores[gene] })),
      cells: top && [...Array(n).keys()].map((i) => location * n + i).map((i) => ({ name: cells[top[i]], value: shares[i], text: `${(100 * shares[i]).toFixed(1)} %` })),
    };
  };

  async function update(changes = {}, quiet = false) {
    Object.assign(state, changes);
    const quantity = page.quantities[state.quantity], values = valuesOf(state.quantity, state.gene);
    const limits = limitsOf(values, state.percentiles);
    if ("gene" in changes) {
      byId("query").value = genes[state.gene];
      const scores = patterns[0].correlations(state.gene);
      const alike = largest(scores, 8, (gene) => gene !== state.gene).map((gene) => ({ gene, name: genes[gene], value: scores[gene] }));
      showGene(state.gene, genes[state.gene], columns, alike, choose);
      document.title = `${genes[state.gene]} · ${page.title}`;
    }
    const column = state.column === null ? null : shades[state.column];
    [...byId("quantities").children].forEach((button, i) => button.setAttribute("aria-pressed", column === null && i === state.quantity));
    byId("colour").value = state.column ?? "";
    showPlace(placeOf(state.place), { gene: choose, way: (way) => update({ way }), forget: () => update({ place: null }) });
    const unit = quantity.unit.length > 24 ? page.short_unit : quantity.unit;
    let drawn = { values, limits, ends: limits.map(tell), scale: page.scales[quantity.scale], unit, label: quantity.label };
    if (column?.colours) {
      const texts = textsOf(column), present = new Set(texts);
      showLegend(column.colours, present);
      await tissue.showGroups(texts, column.colours, column.label);
      drawn = { ...drawn, values: column.values, groups: Object.entries(column.colours).filter(([text]) => present.has(text)), label: column.label };
    } else if (column) {
      const ends = limitsOf(column.values, state.percentiles);
      showColours(page.scales.expression, ends, column.label);
      await tissue.show(column.values, ends, "expression", column.label);
      drawn = { values: column.values, limits: ends, ends: ends.map(tell), scale: page.scales.expression, unit: "", label: column.label };
    } else {
      showColours(drawn.scale, limits, unit);
      byId("unit").title = quantity.unit;
      await tissue.show(values, limits, quantity.scale, quantity.label);
    }
    await showMap(column === null);
    overlay.choose(state.place);
    byId("said").textContent = column ? `Colours show ${column.label}.` : saidOf(quantity, values, limits);
    explorer.drawn = drawn;
    if ("place" in changes && state.place !== null) document.querySelector("aside").scrollTo({ top: byId("place-title").offsetTop - document.querySelector("aside").offsetTop - 10, behavior: "smooth" });
    if (!quiet) history.replaceState(null, "", `#${encodeURIComponent(genes[state.gene])}`);
    explorer.values = drawn.values;
    explorer.shown = (explorer.shown ?? 0) + 1;
  }
  const highest = (values) => values.reduce((best, each, i) => (each > (values[best] ?? -Infinity) ? i : best), 0);
  const saidOf = ({ label }, values, limits) =>
    `${genes[state.gene]}${flagOf(state.gene) && `, ${flagOf(state.gene)}`}: ${label} from ${tell(limits[0])} to ${tell(limits[1])}, highest at ${nameOf(highest(values))}.`;

  /** The measured map of the gene in the right half, where it has one and it is asked for. */
  async function showMap(asked) {
    const row = mapOf.get(state.gene), there = asked && row !== undefined;
    byId("map-label").hidden = !there;
    const shown = there && (state.beside ?? byId("stage").clientWidth > 900), frame = document.querySelector(".frame");
    byId("beside").checked = shown;
    byId("map").hidden = !shown;
    if (frame.classList.toggle("two", shown) !== (explorer.two ?? false)) await tissue.fit();
    explorer.two = shown;
    if (!shown) return;
    const low = maps.low[row], high = maps.high[row];
    const values = Float32Array.from(maps.values.subarray(row * tissue.n, (row + 1) * tissue.n), (each) => (each === 255 ? NaN : low + (each / 254) * (high - low)));
    if (second === null) {
      second = new Tissue(byId("map"), coordinates, { ...page.tissue, names: nameOf, scales: page.scales, still: true });
      await second.start();
      second.onchoose = tissue.onchoose;
    }
    await second.mirror(tissue.both);
    await second.show(values, limitsOf(values, state.percentiles), "expression", "map");
    await second.follow(tissue);
    byId("map-caption").textContent = `measured map, ${tell(low)} to ${tell(high)}, ${page.maps.unit}`;
    byId("caption").textContent = page.quantities[state.quantity].label;
    byId("map").setAttribute("aria-label", `Measured map of ${genes[state.gene]}, from ${tell(low)} to ${tell(high)}`);
    explorer.map = values;
  }
  const choose = (gene) => update({ gene, column: null });
  const named = () => genes.indexOf(decodeURIComponent(location.hash.slice(1)));

  page.quantities.forEach(({ label, meaning }, i) => {
    const button = element("button", label, { type: "button", title: meaning });
    button.addEventListener("click", () => update({ quantity: i, column: null }));
    byId("quantities").append(button);
  });
  if (page.quantities.length < 2) byId("quantities").hidden = true;
  if (page.tissue.dimensions === 3) {
    tissue.views.forEach(({ name }, i) => {
      const button = element("button", name, { type: "button", title: `Seen from there (${i + 1})` });
      button.addEventListener("click", () => tissue.view(name));
      byId("views").append(button);
    });
  } else document.querySelectorAll(".solid").forEach((each) => each.remove());
  if (tissue.half) byId("mirror-label").hidden = false;
  else document.querySelectorAll(".half").forEach((each) => each.remove());

  const mirror = async (both) => { byId("mirror").checked = both; await tissue.mirror(both); await update({}, true); };
  byId("mirror").addEventListener("change", (event) => mirror(event.target.checked));
  byId("percentiles").addEventListener("change", (event) => update({ percentiles: event.target.checked }));
  byId("beside").addEventListener("change", (event) => update({ beside: event.target.checked }));
  byId("colour").addEventListener("change", ({ target }) => update({ column: target.value === "" ? null : Number(target.value) }));
  byId("save").addEventListener("click", () => overlay.save(state.column === null ? genes[state.gene] : "", explorer.drawn.label, explorer.drawn));
  byId("skip").addEventListener("click", () => byId("tissue").focus());
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  search.onchoose = choose;
  tissue.onchoose = (place) => update({ place });
  window.addEventListener("hashchange", () => { if (named() >= 0 && named() !== state.gene) choose(named()); });

  const turns = { ArrowLeft: [-15, 0], ArrowRight: [15, 0], ArrowUp: [0, 15], ArrowDown: [0, -15] };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open || event.target.matches("input[type=text], select")) return;
    const { key } = event, view = tissue.views[Number(key) - 1]?.name;
    if (key === "/") byId("query").focus();
    else if (key === "?") byId("help").showModal();
    else if (key === "n" || key === "p") choose(search.neighbour(state.gene, key === "n" ? 1 : -1));
    else if (key === "q") update({ quantity: (state.quantity + 1) % page.quantities.length, column: null });
    else if (key === "h") update({ place: highest(explorer.values) });
    else if (key === "b" && mapOf.has(state.gene)) update({ beside: !byId("beside").checked });
    else if (key === "m" && tissue.half) mirror(!tissue.both);
    else if (key === "Escape") update({ place: null });
    else if (view) tissue.view(view);
    else if (tissue.solid && key in turns) tissue.rotate(...turns[key]);
    else return;
    event.preventDefault();
  });

  await tissue.start();
  const placed = tissue.onmove;
  tissue.onmove = () => { placed(); if (explorer.two) second?.follow(tissue); };
  overlay.place();
  byId("state").remove();
  Object.assign(explorer, { update, tissue, overlay, patterns, genes, search, ready: true });
  await update({ gene: Math.max(0, named() >= 0 ? named() : page.first) }, true);
}

startPage().catch((error) => {
  const note = byId("state") ?? byId("place").appendChild(element("p"));
  note.classList.add("failure");
  note.textContent = error.message;
  throw error;
});
