/* What is said beside the tissue: about the gene, and about the location that was clicked. */

const byId = (id) => document.getElementById(id);

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A number as a person writes it. */
function tell(value) {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1000 ? value.toFixed(0) : size >= 100 ? value.toFixed(1) : size >= 0.01 ? value.toFixed(2) : value.toPrecision(2);
}

/** A list of names with bars; names are buttons where choosing them does something. */
function barList(rows, onchoose = null) {
  const most = Math.max(...rows.map((row) => Math.abs(row.value)), 1e-9);
  return rows.map(({ name, value, text, gene }) => {
    const item = document.createElement("li");
    const label = onchoose ? element("button", name, { type: "button", title: `Show ${name}` }) : element("div", name, { class: "cell", title: name });
    if (onchoose) label.addEventListener("click", () => onchoose(gene));
    const bar = element("i", "", { style: `--share: ${(100 * Math.max(0, value)) / most}%`, "aria-hidden": "true" });
    item.append(label, bar, element("span", text ?? tell(value)));
    return item;
  });
}

/** Badges and facts of a gene from the columns of the table. */
function showGene(gene, name, columns, alike, onchoose) {
  byId("gene").textContent = name;
  const badges = [], facts = [], more = [];
  const dash = (end) => (end && Number.isFinite(end[gene]) ? tell(end[gene]) : null);
  for (const column of columns) {
    const value = column.values[gene];
    if (column.kind === "flag") {
      if (value) badges.push(element("span", column.label));
    } else if (column.texts) {
      const text = column.texts[value];
      if (text && column.kind === "badge") badges.push(element("span", text, { class: text === "good" ? "yes" : text === "doubtful" ? "doubtful" : "no" }));
      else if (text && column.kind === "reason") facts.push(element("dd", text, { class: "reason" }));
      else if (text) (column.first ? facts : more).push(element("dt", column.label), element("dd", text));
    } else if (Number.isFinite(value)) {
      const low = dash(column.lower), high = dash(column.upper), shown = element("dd", tell(value));
      if (low !== null && high !== null) shown.append(element("small", ` ${low} to ${high}`));
      (column.first ? facts : more).push(element("dt", column.label, column.meaning ? { title: column.meaning } : {}), shown);
    }
  }
  byId("badges").replaceChildren(...badges);
  byId("facts").replaceChildren(...facts);
  byId("more-facts").replaceChildren(...more);
  byId("more").hidden = more.length === 0;
  byId("alike").replaceChildren(...barList(alike, onchoose));
}

/** The location that was clicked: this gene there, what stands out there, whose cells speak for it. */
function showPlace(place, handlers) {
  const panel = byId("place");
  if (place === null) return panel.replaceChildren(element("p", "Click the tissue, or press h, to see which genes stand out there.", { class: "hint" }));
  const where = element("div", "", { class: "where" });
  const forget = element("button", "clear", { type: "button", class: "small", title: "Let go of the location (Esc)" });
  forget.addEventListener("click", handlers.forget);
  where.append(element("b", place.name), forget);
  const facts = element("dl", "", { id: "facts-there" });
  facts.style.cssText = "display:grid;grid-template-columns:1fr auto;gap:1px 12px";
  for (const [label, text] of place.facts) {
    const value = element("dd", text);
    value.style.cssText = "margin:0;text-align:right;font-weight:600";
    facts.append(element("dt", label), value);
  }
  const heading = element("div", "", { class: "heading" });
  const ways = element("div", "", { class: "choice" });
  for (const [way, label, title] of [["z", "relative", "Standard deviations above the gene's mean over locations (z-score)"], ["difference", place.unit, "Above the gene's mean over locations, in its own unit: favours strong genes"]]) {
    const button = element("button", label, { type: "button", class: "small", title, "aria-pressed": String(way === place.way) });
    button.addEventListener("click", () => handlers.way(way));
    ways.append(button);
  }
  heading.append(element("h4", "Genes high here"), ways);
  const genes = element("ol", "", { class: "list", id: "top-genes" });
  genes.append(...barList(place.genes, handlers.gene));
  const parts = [where, element("p", place.at, { class: "soft" }), facts, heading, genes];
  if (place.cells) {
    const cells = element("ol", "", { class: "list", id: "top-cells" });
    cells.append(...barList(place.cells));
    parts.push(element("h4", "Cells most likely from here (share of what counts)"), cells);
  }
  panel.replaceChildren(...parts);
}

/** Names of categories with their colours, in place of the colour bar. */
function showLegend(colours, present) {
  byId("colours").hidden = byId("percentiles-label").hidden = true;
  byId("legend").hidden = false;
  byId("legend").replaceChildren(...Object.entries(colours).filter(([text]) => present.has(text)).map(([text, colour]) => {
    const item = element("li");
    item.append(element("i", "", { style: `background:${colour}`, "aria-hidden": "true" }), text || "none");
    return item;
  }));
}

/** How many genes can be believed, as buttons that list only these. */
function showBelief(counts, onpress) {
  const box = byId("belief");
  box.hidden = false;
  for (const [word, count] of counts) {
    const button = element("button", `${count} ${word}`, { type: "button", class: word, "aria-pressed": "false", title: `List only the ${count} genes that are ${word}` });
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      [...box.children].forEach((each) => each.setAttribute("aria-pressed", pressed && each === button));
      onpress(pressed ? word : null);
    });
    box.append(button);
  }
}

/** The colour bar with its ends and unit. */
function showColours(scale, [low, high], unit) {
  byId("colours").hidden = byId("percentiles-label").hidden = false;
  byId("legend").hidden = true;
  const canvas = document.querySelector("#colours canvas"), context = canvas.getContext("2d");
  const gradient = context.createLinearGradient(0, 0, canvas.width, 0);
  for (const [at, colour] of scale) gradient.addColorStop(at, colour);
  context.fillStyle = gradient;
  context.fillRect(0, 0, canvas.width, canvas.height);
  byId("low").textContent = tell(low);
  byId("high").textContent = tell(high);
  byId("unit").textContent = unit;
}
