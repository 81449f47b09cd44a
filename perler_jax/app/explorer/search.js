/* Choosing a gene from thousands by typing: names that begin with what was typed, then names that hold it. */

const MOST_SHOWN = 200;

class Search {
  /** `names`: of the genes. `orders`: {label: {scores, ascending}}, without scores by the alphabet. */
  constructor(input, list, select, names, orders) {
    Object.assign(this, { input, list, select, names, orders });
    this.lower = names.map((name) => name.toLowerCase());
    this.onchoose = () => {};
    this.only = null; // (gene) => whether it is listed; null lists all
    this.shown = [];
    this.at = -1;
    for (const label of Object.keys(orders)) select.add(new Option(label));
    select.addEventListener("change", () => this.sort());
    input.addEventListener("input", () => this.open());
    input.addEventListener("focus", () => { input.select(); this.open(true); });
    input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    input.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("pointerdown", (event) => {
      const item = event.target.closest("li[data-gene]");
      if (item) { event.preventDefault(); this.pick(Number(item.dataset.gene)); }
    });
    input.disabled = select.disabled = false;
    this.sort();
  }

  sort() {
    const { scores, ascending } = this.orders[this.select.value];
    const alphabet = (a, b) => (this.lower[a] < this.lower[b] ? -1 : this.lower[a] > this.lower[b] ? 1 : 0);
    const known = (i) => (Number.isFinite(scores[i]) ? (ascending ? -1 : 1) * scores[i] : -Infinity);
    this.sorted = [...this.names.keys()].sort(scores ? (a, b) => known(b) - known(a) || alphabet(a, b) : alphabet);
  }

  matches(query) {
    const text = query.trim().toLowerCase();
    const listed = this.only === null ? this.sorted : this.sorted.filter(this.only);
    if (!text) return listed;
    const exact = [], first = [], inside = [];
    for (const gene of listed) {
      const at = this.lower[gene].indexOf(text);
      if (at < 0) continue;
      (this.lower[gene] === text ? exact : at === 0 ? first : inside).push(gene);
    }
    return exact.concat(first, inside);
  }

  open(all = false) {
    const query = all ? "" : this.input.value;
    const found = this.matches(query), { scores, shown = scores, marks } = this.orders[this.select.value];
    this.shown = found.slice(0, MOST_SHOWN);
    this.list.replaceChildren(...this.shown.map((gene, i) => this.item(gene, i, query.trim(), shown, marks)));
    if (found.length === 0 || found.length > MOST_SHOWN) {
      const note = document.createElement("li");
      note.className = "note";
      note.textContent = found.length ? `and ${found.length - MOST_SHOWN} more: type on` : `no gene has “${query.trim()}” in its name`;
      this.list.append(note);
    }
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.mark(query.trim() && this.shown.length ? 0 : -1);
    this.list.scrollTop = 0;
  }

  item(gene, i, query, scores, marks) {
    const item = document.createElement("li"), name = document.createElement("div"), text = this.names[gene];
    item.id = `match-${i}`;
    item.dataset.gene = gene;
    item.setAttribute("role", "option");
    const at = query ? this.lower[gene].indexOf(query.toLowerCase()) : -1;
    if (at < 0) name.textContent = text;
    else {
      const hit = document.createElement("b");
      hit.textContent = text.slice(at, at + query.length);
      name.append(text.slice(0, at), hit, text.slice(at + query.length));
    }
    item.append(name);
    if (scores && Number.isFinite(scores[gene])) {
      const score = document.createElement("span");
      score.textContent = (marks ? `${marks(gene)} ` : "") + tell(scores[gene]);
      item.append(score);
    }
    return item;
  }

  mark(at) {
    this.at = at;
    [...this.list.children].forEach((item, i) => item.setAttribute("aria-selected", i === at));
    if (at < 0) return this.input.removeAttribute("aria-activedescendant");
    this.input.setAttribute("aria-activedescendant", `match-${at}`);
    this.list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
  }

  pick(gene) {
    this.onchoose(gene);
    this.close();
    this.input.blur();
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps) {
      if (this.list.hidden) this.open();
      this.mark(Math.max(0, Math.min(this.shown.length - 1, this.at + steps[event.key])));
    } else if (event.key === "Enter" && this.shown.length) this.pick(this.shown[Math.max(0, this.at)]);
    else if (event.key === "Escape") { this.close(); this.input.blur(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The gene so many places further in the list. */
  neighbour(gene, step) {
    const listed = this.only === null ? this.sorted : this.sorted.filter(this.only), n = listed.length;
    return n ? listed[(listed.indexOf(gene) + step + n) % n] : gene;
  }
}
