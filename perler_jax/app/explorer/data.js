"use strict";
/* Undoes what codec.py and page.py did: base64, deflate, a common basis and each gene's small whole numbers. */

const KINDS = { int8: Int8Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };
const STEPS = 127;

async function inflate(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

/** An array of the page by its record {id, kind}; a text of lines where the kind is "lines". */
async function load(record) {
  const buffer = await inflate(record.id);
  if (record.kind !== "lines") return new KINDS[record.kind](buffer);
  return new TextDecoder().decode(buffer).split("\n");
}

/** All records of an object, by name. */
async function loadAll(records) {
  const pairs = Object.entries(records).map(async ([name, record]) => [name, await load(record)]);
  return Object.fromEntries(await Promise.all(pairs));
}

/** Patterns of all genes: mean + spread * sum over components of basis * loading. */
class Patterns {
  constructor(arrays) {
    Object.assign(this, arrays);
    this.nGenes = this.mean.length;
    this.rank = this.basis_scale.length;
    this.nLocations = this.basis.length / this.rank;
  }

  has(gene) {
    return !Number.isNaN(this.mean[gene]);
  }

  /** Values of one gene at all locations. */
  values(gene) {
    const out = new Float32Array(this.nLocations);
    if (!this.has(gene)) return out.fill(NaN);
    for (let k = 0; k < this.rank; k++) {
      const loading = this.loadings[k * this.nGenes + gene];
      if (loading === 0) continue;
      const factor = (loading / STEPS) * this.basis_scale[k];
      for (let l = 0, at = k * this.nLocations; l < out.length; l++, at++) out[l] += factor * this.basis[at];
    }
    const mean = this.mean[gene], spread = this.spread[gene], low = this.low[gene], high = this.high[gene];
    return out.map((z) => Math.min(high, Math.max(low, mean + spread * z)));
  }

  /** z-scores over locations of all genes at one location. */
  zscores(location) {
    const out = new Float32Array(this.nGenes);
    for (let k = 0; k < this.rank; k++) {
      const factor = (this.basis[k * this.nLocations + location] * this.basis_scale[k]) / STEPS;
      if (factor === 0) continue;
      for (let g = 0, at = k * this.nGenes; g < out.length; g++, at++) out[g] += factor * this.loadings[at];
    }
    return out;
  }

  /** Correlation over locations of one gene's pattern with all: the basis is orthogonal. */
  correlations(gene) {
    const products = new Float32Array(this.nGenes), squares = new Float32Array(this.nGenes);
    for (let k = 0; k < this.rank; k++) {
      const start = k * this.nGenes, own = this.loadings[start + gene];
      for (let g = 0; g < this.nGenes; g++) {
        const other = this.loadings[start + g];
        products[g] += own * other;
        squares[g] += other * other;
      }
    }
    return products.map((product, g) => product / Math.sqrt(squares[g] * squares[gene] || Infinity));
  }
}

/** Indices of the largest scores, best first; `allowed` may leave some out. */
function largest(scores, n, allowed = () => true) {
  const best = [];
  for (let i = 0; i < scores.length; i++) {
    if (!(scores[i] > (best.length < n ? -Infinity : scores[best[n - 1]])) || !allowed(i)) continue;
    let at = best.length;
    while (at > 0 && scores[best[at - 1]] < scores[i]) at--;
    best.splice(at, 0, i);
    best.length = Math.min(best.length, n);
  }
  return best;
}

/** Ends of the colours: the extremes, or the 1st and 99th percentile. */
function limitsOf(values, percentiles) {
  const known = Float32Array.from(values).filter(Number.isFinite).sort();
  if (known.length === 0) return [0, 1];
  const at = (share) => known[Math.round(share * (known.length - 1))];
  const [low, high] = percentiles ? [at(0.01), at(0.99)] : [at(0), at(1)];
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}
