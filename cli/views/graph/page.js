'use strict';
// One run as a tree of executions over time. Rows are drawn on a canvas, only those in view, so that
// ten thousand are as quick as ten.
const $ = id => document.getElementById(id);
const data = JSON.parse($('data').textContent);
const report = data.report, reasonsOf = data.reasons || {};
const ROW = 24, PAD = 12, STEP = 14;
const OUTCOMES = [
  ['hit', 'hit', 'Skipped: its recorded outputs were brought back'],
  ['miss', 'ran', 'It had to run, and is recorded now'],
  ['uncacheable', 'not cacheable', 'It ran, and cannot be recorded'],
  ['covered', 'recorded with its caller', 'It ran, and is recorded as a part of what started it: nothing to mend'],
  ['not_worth_it', 'not worth it', 'Cheaper to run than to look up'],
];
const label = Object.fromEntries(OUTCOMES.map(o => [o[0], o[1]]));
const order = Object.fromEntries(OUTCOMES.map((o, i) => [o[0], i]));

function element(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {}))
    k.startsWith('on') ? e.addEventListener(k.slice(2), v) : e.setAttribute(k, v);
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}
function mark(outcome) {
  const s = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  s.setAttribute('viewBox', '0 0 10 10');
  s.setAttribute('class', 'mark');
  s.innerHTML = {hit: '<circle cx="5" cy="5" r="4.5"/>', miss: '<path d="M5 0l5 5-5 5-5-5z"/>',
    uncacheable: '<rect x=".7" y=".7" width="8.6" height="8.6" rx="1"/>',
    covered: '<rect x="1.4" y="1.4" width="7.2" height="7.2" rx="1" fill="none" stroke-width="1.6"/>',
    not_worth_it: '<path d="M0 4h10v2.4H0z"/>'}[outcome] || '';
  s.style.fill = s.style.stroke = `var(--${outcome})`;
  if (outcome !== 'covered') s.style.stroke = 'none';
  return s;
}
const number = n => n.toLocaleString('en');
function seconds(s) {
  if (!(s > 0)) return '0';
  if (s < 1e-3) return Math.max(1, Math.round(s * 1e6)) + ' µs';
  if (s < 0.1) return (s * 1e3).toFixed(s < 0.01 ? 1 : 0) + ' ms';
  if (s < 120) return s.toFixed(s < 10 ? 2 : 1) + ' s';
  if (s < 7200) return Math.floor(s / 60) + ' min ' + Math.round(s % 60) + ' s';
  return Math.floor(s / 3600) + ' h ' + Math.round(s % 3600 / 60) + ' min';
}
const quoted = w => /^[\w@%+=:,./-]+$/.test(w) ? w : "'" + w.replace(/'/g, "'\\''") + "'";

// --- the tree ---
const nodes = [], byId = new Map();
for (const e of report.executions || []) {
  const argv = e.argv && e.argv.length ? e.argv : ['?'];
  const timed = typeof e.start_us === 'number' && e.end_us >= e.start_us && (e.end_us > 0);
  const n = {e, id: e.id, parent: null, kids: [], depth: 0, open: false,
    program: argv[0].slice(argv[0].lastIndexOf('/') + 1) || argv[0],
    args: argv.slice(1).map(quoted).join(' ').replace(/\s+/g, ' '),
    outcome: e.outcome in order ? e.outcome : 'uncacheable',
    start: typeof e.start_us === 'number' ? e.start_us / 1e6 : NaN, end: timed ? e.end_us / 1e6 : NaN};
  nodes.push(n);
  byId.set(e.id, n);
}
const roots = [];
for (const n of nodes) {
  n.parent = byId.get(n.e.parent) || null;
  if (n.parent === n) n.parent = null;
  (n.parent ? n.parent.kids : roots).push(n);
}
const early = (a, b) => (a.start - b.start) || (a.id - b.id);
roots.sort(early);
for (const n of nodes) n.kids.sort(early);
const all = [];  // depth first
for (let stack = roots.slice().reverse(); stack.length;) {
  const n = stack.pop();
  n.at = all.length;
  all.push(n);
  for (let i = n.kids.length; i-- > 0;) {
    n.kids[i].depth = n.depth + 1;
    stack.push(n.kids[i]);
  }
}
let total = Math.max(report.wall_s || 0, 1e-4);
for (const n of all) if (n.end > total) total = n.end;
const timed = all.some(n => n.end >= 0);
for (const n of all) if (!(n.end >= 0) && n.start >= 0) { n.end = total; n.goesOn = true; }
for (const n of all) {  // what cannot be recorded by itself, but is as a part of what is above it
  n.inRecorded = Boolean(n.parent && (n.parent.e.recorded || n.parent.inRecorded));
  if (n.inRecorded && n.outcome === 'uncacheable') n.outcome = 'covered';
}
for (let i = all.length; i-- > 0;) {  // processor time without the children's
  const n = all[i];
  let inner = 0;
  for (const k of n.kids) inner += k.e.cpu_s || 0;
  n.own = Math.max(0, (n.e.cpu_s || 0) - inner);
  n.took = n.end >= n.start ? n.end - n.start : (n.e.cpu_s || 0);
  n.cost = n.own;  // with those that are recorded as a part of it
  for (const k of n.kids) if (k.outcome === 'covered') n.cost += k.cost;
  n.last = n.kids.length ? n.kids[n.kids.length - 1].last : i;  // of its subtree
}
for (const n of all)
  n.text = (n.program + ' ' + n.args + ' ' + (n.e.cwd || '') + ' ' + (n.e.reasons || [])
    .map(r => r.code + ' ' + r.path + ' ' + r.detail).join(' ')).toLowerCase();

// --- what is shown ---
const view = {from: 0, to: total, names: 0, outcomes: new Set(OUTCOMES.map(o => o[0])), program: '', reason: '', path: null, words: []};
let rows = [], selected = null, hovered = null, colours = {};

function unfold() {  // level by level, until the page is full of them
  let count = roots.length;
  for (let level = roots; level.length;) {
    const next = level.flatMap(n => n.kids);
    if (count + next.length > 400 && count > 8) break;
    for (const n of level) n.open = true;
    count += next.length;
    level = next;
  }
}
unfold();

const filtered = () => view.program || view.reason || view.path !== null || view.words.length || view.outcomes.size < OUTCOMES.length;
function matches(n) {
  return view.outcomes.has(n.outcome) && (!view.program || n.program === view.program) &&
    (!view.reason || n.outcome !== 'covered' && (n.e.reasons || []).some(r => r.code === view.reason)) &&
    (view.path === null || n.outcome !== 'covered' && (n.e.reasons || []).some(r => (r.path || '.') === view.path)) &&
    view.words.every(w => n.text.includes(w));
}
function refilter() {
  const filter = filtered();
  let found = 0;
  for (const n of all) { n.match = !filter || matches(n); n.keep = n.match; found += n.match; }
  if (filter) for (let i = all.length; i-- > 0;) if (all[i].keep && all[i].parent) all[i].parent.keep = true;
  rows = [];
  for (let i = 0; i < all.length;) {
    const n = all[i];
    if (filter && !n.keep) { i = n.last + 1; continue; }
    n.row = rows.length;
    rows.push(n);
    i = n.kids.length && !n.open && !filter ? n.last + 1 : i + 1;
  }
  $('shown').textContent = filter ? `${number(found)} of ${number(all.length)}` : '';
  renderChips();
  $('nothing').hidden = rows.length > 0;
  $('nothing').textContent = 'Nothing matches. Loosen the filters above.';
  layout();
}

// --- drawing ---
const scroll = $('scroll'), canvas = $('rows'), axis = $('axis'), overview = $('overview');
function context(c, w, h) {
  const d = window.devicePixelRatio || 1;
  if (c.width !== Math.round(w * d) || c.height !== Math.round(h * d)) {
    c.width = Math.round(w * d);
    c.height = Math.round(h * d);
    c.style.width = w + 'px';
    c.style.height = h + 'px';
  }
  const g = c.getContext('2d');
  g.setTransform(d, 0, 0, d, 0, 0);
  g.clearRect(0, 0, w, h);
  return g;
}
function readColours() {
  const s = getComputedStyle(document.documentElement);
  for (const name of ['bg', 'panel', 'ink', 'muted', 'faint', 'line', 'soft', 'select', 'accent', ...OUTCOMES.map(o => o[0])])
    colours[name] = s.getPropertyValue('--' + name).trim();
  colours.mono = s.getPropertyValue('--mono').trim();
  colours.sans = s.getPropertyValue('--sans').trim();
}
let width = 0, height = 0;
function layout() {
  width = scroll.clientWidth;
  height = scroll.clientHeight;
  if (!view.names) view.names = Math.round(Math.min(620, Math.max(220, width * (timed ? 0.46 : 0.98))));
  view.names = Math.min(view.names, Math.max(180, width - 120));
  $('tall').style.height = Math.max(rows.length * ROW, 1) + 'px';
  $('grip').style.left = view.names + 'px';
  draw();
}
let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; paintRows(); paintAxis(); paintOverview(); });
}
const x = t => view.names + PAD + (t - view.from) / (view.to - view.from) * (width - view.names - 2 * PAD);
const timeAt = px => view.from + (px - view.names - PAD) / (width - view.names - 2 * PAD) * (view.to - view.from);
function ticks() {
  const span = view.to - view.from, want = Math.max(2, (width - view.names) / 95);
  const rough = span / want, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough) || 10 * power;
  const out = [];
  for (let i = Math.ceil(view.from / step - 1e-9); i * step <= view.to + step * 1e-6; i++) out.push(i * step);
  return out;
}
function shape(g, outcome, px, py) {
  g.fillStyle = colours[outcome];
  g.beginPath();
  if (outcome === 'hit') g.arc(px + 4, py, 4, 0, 7);
  else if (outcome === 'miss') { g.moveTo(px + 4, py - 4.8); g.lineTo(px + 8.8, py); g.lineTo(px + 4, py + 4.8); g.lineTo(px - .8, py); }
  else if (outcome === 'uncacheable') g.rect(px, py - 4, 8, 8);
  else if (outcome === 'covered') {
    g.strokeStyle = colours[outcome];
    g.lineWidth = 1.5;
    return g.strokeRect(px + .8, py - 3.2, 6.4, 6.4);
  }
  else g.rect(px, py - 1.2, 9, 2.4);
  g.fill();
}
function box(g, px, py, w, h, r) {
  g.beginPath();
  g.roundRect ? g.roundRect(px, py, w, h, Math.min(r, w / 2)) : g.rect(px, py, w, h);
  g.fill();
}
function paintRows() {
  const g = context(canvas, width, height);
  const top = scroll.scrollTop, first = Math.floor(top / ROW), last = Math.min(rows.length, Math.ceil((top + height) / ROW));
  if (timed) {
    g.fillStyle = colours.line;
    for (const t of ticks()) g.fillRect(Math.round(x(t)), 0, 1, height);
  }
  g.textBaseline = 'middle';
  const plain = `12.5px ${colours.mono}`, strong = `600 12.5px ${colours.mono}`, small = `11.5px ${colours.sans}`;
  g.font = plain;
  const cw = g.measureText('0000000000').width / 10;
  for (let i = first; i < last; i++) {
    const n = rows[i], y = i * ROW - top, mid = y + ROW / 2;
    if (n === selected || n === hovered) {
      g.fillStyle = n === selected ? colours.select : colours.soft;
      g.fillRect(0, y, width, ROW);
    }
    g.globalAlpha = n.match ? 1 : 0.42;
    const indent = PAD + Math.min(n.depth, 18) * STEP;
    g.fillStyle = colours.line;
    for (let d = 0; d < Math.min(n.depth, 18); d++) g.fillRect(PAD + d * STEP + 4, y, 1, ROW);
    if (n.kids.length) {
      const open = n.open || filtered();
      g.fillStyle = colours.faint;
      g.beginPath();
      if (open) { g.moveTo(indent, mid - 2.5); g.lineTo(indent + 8, mid - 2.5); g.lineTo(indent + 4, mid + 3); }
      else { g.moveTo(indent + 1.5, mid - 4); g.lineTo(indent + 7, mid); g.lineTo(indent + 1.5, mid + 4); }
      g.fill();
    }
    shape(g, n.outcome, indent + 14, mid);
    const right = seconds(n.took);
    g.font = small;
    const rightWidth = g.measureText(right).width;
    const folded = n.kids.length && !n.open && !filtered() ? `  ${number(n.last - n.at)} inside` : '';
    let px = indent + 30, room = Math.floor((view.names - PAD - rightWidth - 14 - px) / cw);
    g.font = strong;
    g.fillStyle = colours.ink;
    const name = n.program.length > room ? n.program.slice(0, Math.max(0, room - 1)) + '…' : n.program;
    g.fillText(name, px, mid);
    px += (name.length + 1) * cw;
    room -= name.length + 1;
    g.font = plain;
    g.fillStyle = colours.muted;
    const rest = n.args + folded;
    if (room > 3) g.fillText(rest.length > room ? rest.slice(0, room - 1) + '…' : rest, px, mid);
    g.font = small;
    g.textAlign = 'right';
    g.fillText(right, view.names - PAD, mid);
    g.textAlign = 'left';
    if (timed && n.end >= n.start) paintBar(g, n, y, small);
    g.globalAlpha = 1;
  }
  g.fillStyle = colours.line;
  g.fillRect(view.names, 0, 1, height);
}
function paintBar(g, n, y, font) {
  const edge = view.names + PAD, far = width - PAD;
  let a = x(n.start), b = x(n.end);
  if (b < edge - 2 || a > far + 2) return;
  a = Math.max(a, edge - 1);
  b = Math.min(Math.max(b, a + 2.5), far + 3);
  g.fillStyle = colours[n.outcome];
  const thin = n.kids.length > 0;  // what contains others is quieter than what does the work
  const alpha = g.globalAlpha;
  if (thin) g.globalAlpha = alpha * 0.38;
  box(g, a, y + 5, b - a, ROW - 10, 3);
  g.globalAlpha = alpha;
  if (thin) g.fillRect(a, y + 5, Math.min(2.5, b - a), ROW - 10);
  g.font = font;
  const text = n.program, w = g.measureText(text).width;
  if (b - a > w + 14) {
    g.fillStyle = thin ? colours.ink : colours.panel;
    g.fillText(text, a + 7, y + ROW / 2);
  } else if (b - a < 40 && far - b > w + 12 && view.to - view.from < total * 0.999) {
    g.fillStyle = colours.faint;
    g.fillText(text, b + 5, y + ROW / 2);
  }
}
function paintAxis() {
  const g = context(axis, width, 24);
  g.textBaseline = 'middle';
  g.textAlign = 'left';
  g.font = `600 11.5px ${colours.sans}`;
  g.fillStyle = colours.muted;
  g.fillText(`${number(all.length)} execution${all.length === 1 ? '' : 's'}`, PAD, 12.5);
  g.fillStyle = colours.line;
  g.fillRect(view.names, 0, 1, 24);
  if (!timed) return;
  g.font = `11.5px ${colours.sans}`;
  g.textAlign = 'center';
  for (const t of ticks()) {
    const px = x(t);
    if (px > width - 24) continue;
    g.fillStyle = colours.muted;
    g.fillText(t === 0 ? '0' : seconds(t), Math.max(px, view.names + PAD + 6), 12.5);
  }
}
// How many processes without children there were at each moment, by outcome.
let load = null;
function measure(w) {
  const bins = Math.max(1, Math.floor(w)), per = OUTCOMES.map(() => new Float32Array(bins + 1));
  for (const n of all) {
    if (n.kids.length || !(n.end >= n.start)) continue;
    const p = per[order[n.outcome]], a = n.start / total * bins, b = Math.max(n.end / total * bins, a + 1e-6);
    for (let i = Math.floor(a); i < Math.min(b, bins); i++) p[i] += Math.min(b, i + 1) - Math.max(a, i);
  }
  let most = 0;
  for (let i = 0; i < bins; i++) most = Math.max(most, per.reduce((s, p) => s + p[i], 0));
  return {w, bins, per, most};
}
function paintOverview() {
  const w = overview.parentElement.clientWidth, h = 52, g = context(overview, w, h);
  if (!timed) return;
  if (!load || load.w !== w) load = measure(w);
  for (let i = 0; i < load.bins; i++) {
    let y = h - 5;
    for (let o = OUTCOMES.length; o-- > 0;) {
      const v = load.per[o][i];
      if (!v) continue;
      const tall = Math.max(0.75, v / load.most * (h - 14));
      g.fillStyle = colours[OUTCOMES[o][0]];
      g.fillRect(i, y - tall, 1, tall);
      y -= tall;
    }
  }
  const a = view.from / total * w, b = view.to / total * w;
  if (b - a < w - 0.5) {
    g.globalAlpha = 0.68;
    g.fillStyle = colours.panel;
    g.fillRect(0, 0, a, h);
    g.fillRect(b, 0, w - b, h);
    g.globalAlpha = 1;
    g.fillStyle = colours.accent;
    g.fillRect(a - 1, 0, 2, h);
    g.fillRect(b - 1, 0, 2, h);
  }
}

// --- zoom ---
function setView(from, to) {
  const span = Math.min(total, Math.max(to - from, total / 1e5, 2e-5));
  view.from = Math.max(0, Math.min(from, total - span));
  view.to = view.from + span;
  draw();
}
function zoom(factor, at = (view.from + view.to) / 2) {
  setView(at - (at - view.from) * factor, at + (view.to - at) * factor);
}
function zoomTo(n) {
  const margin = Math.max((n.end - n.start) * 0.08, 1e-5);
  if (n.end >= n.start) setView(n.start - margin, n.end + margin);
}
scroll.addEventListener('wheel', event => {
  const side = event.shiftKey ? event.deltaY : event.deltaX;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.004), timeAt(Math.max(event.offsetX, view.names + PAD)));
  } else if (Math.abs(side) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
    event.preventDefault();
    const move = side / (width - view.names) * (view.to - view.from);
    setView(view.from + move, view.to + move);
  }
}, {passive: false});
overview.addEventListener('pointerdown', event => {
  if (!timed) return;
  overview.setPointerCapture(event.pointerId);
  const w = overview.clientWidth, start = event.offsetX / w * total;
  const move = e => {
    const now = Math.max(0, Math.min(1, (e.clientX - overview.getBoundingClientRect().left) / w)) * total;
    if (Math.abs(now - start) / total * w > 3) setView(Math.min(start, now), Math.max(start, now));
  };
  const end = () => overview.removeEventListener('pointermove', move);
  overview.addEventListener('pointermove', move);
  overview.addEventListener('pointerup', end, {once: true});
  overview.addEventListener('pointercancel', end, {once: true});
});
overview.addEventListener('dblclick', () => setView(0, total));
$('grip').addEventListener('pointerdown', event => {
  $('grip').setPointerCapture(event.pointerId);
  const left = scroll.getBoundingClientRect().left;
  const move = e => { view.names = Math.max(160, e.clientX - left); layout(); };
  $('grip').addEventListener('pointermove', move);
  $('grip').addEventListener('pointerup', () => $('grip').removeEventListener('pointermove', move), {once: true});
});

// --- choosing ---
function rowAt(event) {
  const y = event.clientY - scroll.getBoundingClientRect().top + scroll.scrollTop;
  return rows[Math.floor(y / ROW)] || null;
}
function toggle(n, open = !n.open) {
  if (n.kids.length && !filtered()) { n.open = open; refilter(); }
}
function reveal(n) {
  for (let p = n.parent; p; p = p.parent) p.open = true;
  if (filtered() && !n.keep) clearFilters();
  refilter();
  const y = n.row * ROW;
  if (y < scroll.scrollTop || y + ROW > scroll.scrollTop + height) scroll.scrollTop = y - height / 3;
}
function select(n, show) {
  selected = n;
  if (n && show) reveal(n);
  if (n && (n.end < view.from || n.start > view.to)) setView(n.start - (view.to - view.from) / 2, n.start + (view.to - view.from) / 2);
  try { history.replaceState(null, '', n ? '#' + n.id : location.pathname + location.search); } catch (e) { /* a file of no origin */ }
  renderSide();
  draw();
}
scroll.addEventListener('click', event => {
  const n = rowAt(event);
  if (!n) return select(null);
  const px = event.clientX - scroll.getBoundingClientRect().left, indent = PAD + Math.min(n.depth, 18) * STEP;
  if (px >= indent - 6 && px <= indent + 11 && n.kids.length) return toggle(n);
  select(n);
});
scroll.addEventListener('dblclick', event => { const n = rowAt(event); if (n) zoomTo(n); });
scroll.addEventListener('scroll', () => { draw(); $('tip').hidden = true; });
scroll.addEventListener('pointermove', event => {
  const n = rowAt(event), tip = $('tip');
  if (n !== hovered) { hovered = n; draw(); }
  if (!n) { tip.hidden = true; return; }
  const reasons = n.outcome === 'covered' ? [] : n.e.reasons || [];
  const why = reasons.length ? `${reasons[0].code} ${reasons[0].path}` + (reasons.length > 1 ? ` and ${reasons.length - 1} more` : '') : '';
  tip.replaceChildren(element('span', {class: 'c'}, n.program + ' ' + n.args),
    label[n.outcome] + (n.outcome === 'hit' && n.e.saved_s > 0 ? ', saved ' + seconds(n.e.saved_s) : '') + `, ${seconds(n.took)}` + (n.start >= 0 ? ` from ${seconds(n.start)}` : ''),
    ...(why ? [element('span', {class: 'w'}, why)] : []));
  tip.hidden = false;
  tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + 'px';
  tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + 'px';
});
scroll.addEventListener('pointerleave', () => { hovered = null; $('tip').hidden = true; draw(); });
document.addEventListener('keydown', event => {
  const typing = /INPUT|SELECT/.test(document.activeElement.tagName);
  if (event.key === 'Escape') {
    if (typing) document.activeElement.blur();
    else if (selected) select(null);
    else clearFilters(), refilter();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key, i = selected && rows[selected.row] === selected ? selected.row : -1;
  if (key === '/') $('search').focus();
  else if (key === 'ArrowDown' || key === 'j') step(Math.min(rows.length - 1, i + 1));
  else if (key === 'ArrowUp' || key === 'k') step(Math.max(0, i - 1));
  else if (key === 'PageDown') step(Math.min(rows.length - 1, i + page()));
  else if (key === 'PageUp') step(Math.max(0, i - page()));
  else if (key === 'Home') step(0);
  else if (key === 'End') step(rows.length - 1);
  else if (key === 'n' || key === 'N') nextThatRan(key === 'n' ? 1 : -1);
  else if (key === 'ArrowLeft' && selected) selected.open && selected.kids.length ? toggle(selected, false) : selected.parent && select(selected.parent, true);
  else if (key === 'ArrowRight' && selected) toggle(selected, true);
  else if (key === 'Enter' && selected) zoomTo(selected);
  else if (key === '+' || key === '=') zoom(0.6);
  else if (key === '-') zoom(1 / 0.6);
  else if (key === '0') setView(0, total);
  else return;
  event.preventDefault();
});
const step = i => rows[i] && select(rows[i], true);
const page = () => Math.max(1, Math.floor(height / ROW) - 1);
function nextThatRan(by) {  // of those that are wanted, and that nothing above them accounts for
  for (let i = (selected ? selected.at : -1) + by; i >= 0 && i < all.length; i += by)
    if (all[i].match && (all[i].outcome === 'miss' || all[i].outcome === 'uncacheable')) return select(all[i], true);
}

// --- the side ---
function nodeList(list, value) {
  return element('ul', {class: 'list'}, ...list.map(n => element('li', {},
    element('button', {onclick: () => select(n, true), title: n.program + ' ' + n.args}, mark(n.outcome),
      element('span', {class: 'name'}, n.program + ' ' + n.args), element('span', {class: 'n'}, value(n))))));
}
function setFilter(name, value) {
  view[name] = view[name] === value ? {reason: '', path: null}[name] : value;
  refilter();
  if (!selected) renderSide();
}
// What else ran because of this path, on a click.
function pathLink(path) {
  return element('button', {class: 'path', title: 'Show all that ran because of it', onclick: () => setFilter('path', path)}, path);
}
function renderChips() {
  const chip = (name, text, value) => element('button', {class: 'chip', title: 'Take this filter away', onclick: () => setFilter(name, value)}, '× ' + text);
  $('chips').replaceChildren(...(view.reason ? [chip('reason', view.reason, view.reason)] : []),
    ...(view.path !== null ? [chip('path', view.path, view.path)] : []));
}
function reasonBlock(n, r) {
  const row = reasonsOf[r.code] || {};
  const block = element('div', {class: 'reason'},
    element('code', {}, r.code),
    r.path || r.code === 'listing-changed' ? pathLink(r.path || '.') : null,
    element('div', {class: 'why'}, r.detail || row.meaning || ''),
    row.remedy ? element('div', {class: 'do'}, row.remedy[0].toUpperCase() + row.remedy.slice(1) + '.') : null);
  block.style.setProperty('--tone', `var(--${row.never ? 'uncacheable' : 'miss'})`);
  return block;
}
function renderSide() {
  const side = $('side');
  side.scrollTop = 0;
  if (selected) return side.replaceChildren(...describe(selected));
  const codes = new Map(), paths = new Map();
  for (const n of all) {
    if (n.outcome === 'covered') continue;
    const reasons = n.e.reasons || [];
    for (const code of new Set(reasons.map(r => r.code))) codes.set(code, (codes.get(code) || 0) + 1);
    for (const path of new Set(reasons.filter(r => r.path || r.code === 'listing-changed').map(r => r.path || '.'))) {
      const sum = paths.get(path) || {n: 0, cost: 0};
      sum.n++;
      sum.cost += n.cost;
      paths.set(path, sum);
    }
  }
  const worst = [...codes].sort((a, b) => b[1] - a[1]).slice(0, 9);
  const causes = [...paths].sort((a, b) => b[1].cost - a[1].cost || b[1].n - a[1].n).slice(0, 7);
  const choice = (name, value, title, text, n) => element('li', {}, element('button', {onclick: () => setFilter(name, value), title,
    'aria-pressed': String(view[name] === value)}, element('span', {class: 'name'}, text), element('span', {class: 'n'}, n)));
  const ran = all.filter(n => n.outcome !== 'hit'), costly = ran.filter(n => n.own > 0).sort((a, b) => b.own - a.own).slice(0, 8);
  const saved = all.filter(n => n.e.saved_s > 0).sort((a, b) => b.e.saved_s - a.e.saved_s).slice(0, 5);
  side.replaceChildren(
    ...(worst.length ? [element('h2', {}, 'Why things ran'), element('ul', {class: 'list'},
      ...worst.map(([code, n]) => choice('reason', code, (reasonsOf[code] || {}).meaning || '', code, number(n))))] : [element('p', {class: 'hint'}, 'Everything was a hit: nothing had to run.')]),
    ...(causes.length ? [element('h2', {}, 'Because of'), element('ul', {class: 'list'}, ...causes.map(([path, sum]) =>
      choice('path', path, `${path}: ${number(sum.n)} commands ran because of it, ${seconds(sum.cost)} of processor time`, path,
        sum.cost > 0 ? `${number(sum.n)} · ${seconds(sum.cost)}` : number(sum.n))))] : []),
    ...(costly.length ? [element('h2', {}, 'Most processor time'), nodeList(costly, n => seconds(n.own))] : []),
    ...(saved.length ? [element('h2', {}, 'Saved most'), nodeList(saved, n => seconds(n.e.saved_s))] : []),
    element('h2', {}, 'Getting around'),
    element('p', {class: 'hint'}, 'Click a row for its reasons. Drag over the strip at the top, or hold Ctrl and scroll, to zoom; double-click a row to zoom to it. ',
      element('kbd', {}, '/'), ' searches, ', element('kbd', {}, '↑'), ' ', element('kbd', {}, '↓'), ' walk, ', element('kbd', {}, 'n'), ' is the next that ran, ', element('kbd', {}, 'Esc'), ' goes back.'));
}
function describe(n) {
  const e = n.e, facts = [];
  const fact = (name, value) => facts.push(element('dt', {}, name), element('dd', {}, value));
  fact('Directory', (e.cwd || '').replace(report.root || '\0', '.').replace(/^\.\//, '') || '.');
  if (n.start >= 0) fact('Started', n.start > 0 ? seconds(n.start) + ' into the run' : 'with the run');
  fact('Took', seconds(n.took) + (n.goesOn ? ', and is still running' : ''));
  if (n.outcome === 'hit') { if (e.saved_s > 0) fact('Saved', seconds(e.saved_s)); }
  else {
    fact('Processor', n.kids.length ? `${seconds(n.own)} itself, ${seconds(e.cpu_s)} with children` : seconds(e.cpu_s));
    fact('Recorded', e.recorded ? 'yes: it hits next time' : n.inRecorded ? 'as a part of what started it' : 'no');
  }
  fact('Exit status', String(e.exit_status));
  if (n.outcome !== 'hit') fact('Inputs', number(e.facts || 0) + ' facts, ' + number(e.effects || 0) + ' effects');
  fact('Execution', `${e.id}, process ${e.pid}`);
  const command = element('div', {class: 'cmd'}, element('b', {}, n.program), ' ' + n.args);
  const copy = element('button', {onclick: () => { navigator.clipboard && navigator.clipboard.writeText((e.argv || []).map(quoted).join(' ')); copy.textContent = 'Copied'; }}, 'Copy command');
  copy.style.marginTop = '8px';
  const heading = n.outcome === 'hit' ? 'Hit: nothing ran' : n.outcome === 'miss' ? 'Ran' : n.outcome === 'uncacheable' ? 'Ran, not cacheable' : n.outcome === 'covered' ? 'Ran, recorded with its caller' : 'Ran, not worth a look-up';
  const reasons = e.reasons || [];
  return [
    element('div', {class: 'state'}, mark(n.outcome), heading, element('button', {class: 'close', onclick: () => select(null), 'aria-label': 'Close'}, '×')),
    command, copy, element('dl', {class: 'facts'}, ...facts),
    ...(reasons.length ? [element('h2', {}, reasons.length === 1 ? 'Reason' : 'Reasons'), ...reasons.map(r => reasonBlock(n, r))] : []),
    ...(n.parent ? [element('h2', {}, 'Started by'), nodeList([n.parent], () => '')] : []),
    ...(n.kids.length ? [element('h2', {}, `Started ${number(n.kids.length)}`), nodeList(n.kids.slice(0, 40), k => seconds(k.took))] : []),
    ...(n.kids.length > 40 ? [element('p', {class: 'hint'}, `and ${number(n.kids.length - 40)} more`)] : []),
  ];
}

// --- the head and the tools ---
function clearFilters() {
  view.outcomes = new Set(OUTCOMES.map(o => o[0]));
  view.program = view.reason = '';
  view.path = null;
  view.words = [];
  $('search').value = '';
  $('program').value = '';
  for (const b of $('legend').children) b.setAttribute('aria-pressed', 'true');
}
function head() {
  const command = (report.command || []).map(quoted).join(' ') || 'A run';
  document.title = command + ', pcache';
  $('command').textContent = command;
  $('command').title = command;
  const bits = [];
  if (data.run) bits.push('Run ' + data.run);
  if (report.started_s) bits.push(new Date(report.started_s * 1000).toLocaleString([], {dateStyle: 'medium', timeStyle: 'short'}));
  if (report.root) bits.push(report.root);
  $('subtitle').textContent = bits.join('  ·  ');
  if (report.exit_status) $('subtitle').append('  ·  ', element('b', {}, 'exit status ' + report.exit_status));
  const tell = (name, value, good) => $('numbers').append(element('div', {}, element('dd', good ? {class: 'good'} : {}, value), element('dt', {}, name)));
  if (!all.length) return;
  tell('took', seconds(report.wall_s));
  if (report.saved_s > 0) tell('saved', seconds(report.saved_s), true);
  const can = (report.hits || 0) + (report.misses || 0);
  if (can) tell('hit', Math.round(100 * report.hits / can) + ' %', report.hits > 0);
  tell(all.length === 1 ? 'execution' : 'executions', number(all.length));
}
function tools() {
  const counts = {};
  for (const n of all) counts[n.outcome] = (counts[n.outcome] || 0) + 1;
  for (const [outcome, name, title] of OUTCOMES) {
    if (!counts[outcome]) continue;
    const part = element('i', {title: `${number(counts[outcome])} ${name}`});
    part.style.flex = counts[outcome];
    part.style.background = `var(--${outcome})`;
    $('share').append(part);
    const b = element('button', {'aria-pressed': 'true', title: title + '. Click to hide or show.', 'data-outcome': outcome},
      mark(outcome), element('b', {}, number(counts[outcome])), name);
    b.addEventListener('click', () => {
      view.outcomes.has(outcome) ? view.outcomes.delete(outcome) : view.outcomes.add(outcome);
      b.setAttribute('aria-pressed', String(view.outcomes.has(outcome)));
      refilter();
    });
    $('legend').append(b);
  }
  const programs = new Map();
  for (const n of all) programs.set(n.program, (programs.get(n.program) || 0) + 1);
  $('program').append(element('option', {value: ''}, 'Every program'),
    ...[...programs].sort((a, b) => b[1] - a[1]).map(([p, n]) => element('option', {value: p}, `${p} (${number(n)})`)));
  $('program').addEventListener('change', () => { view.program = $('program').value; refilter(); });
  $('search').addEventListener('input', () => {
    view.words = $('search').value.toLowerCase().split(/\s+/).filter(Boolean);
    scroll.scrollTop = 0;
    refilter();
  });
  $('in').addEventListener('click', () => zoom(0.6));
  $('out').addEventListener('click', () => zoom(1 / 0.6));
  $('fit').addEventListener('click', () => setView(0, total));
  $('fold').addEventListener('click', () => {
    const fold = all.some(n => n.open && n.kids.length && n.parent);
    for (const n of all) n.open = fold ? !n.parent : true;
    $('fold').textContent = fold ? 'Unfold' : 'Fold';
    refilter();
  });
}
function theme() {
  const saved = (() => { try { return localStorage.getItem('pcache-theme'); } catch (e) { return null; } })();
  const wanted = new URLSearchParams(location.search).get('theme') || saved;
  if (wanted === 'light' || wanted === 'dark') document.documentElement.dataset.theme = wanted;
  $('theme').addEventListener('click', () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    document.documentElement.dataset.theme = dark ? 'light' : 'dark';
    try { localStorage.setItem('pcache-theme', document.documentElement.dataset.theme); } catch (e) { /* private */ }
    readColours();
    draw();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readColours(); draw(); });
}

theme();
readColours();
head();
if (!all.length) {
  document.querySelector('main').hidden = $('tools').hidden = $('share').hidden = true;
  $('empty').hidden = false;
  $('empty-title').textContent = report.warning ? 'This run was not traced' : 'Nothing ran in this run';
  if (report.warning) $('empty-text').textContent = `pcache could not do its work, so the command ran uncached: ${report.warning}.`;
  else $('empty-text').append('There is no execution to show. Run something with ', element('code', {}, 'pcache run -- make'), ', then ', element('code', {}, 'pcache graph'), '.');
} else {
  tools();
  if (!timed) $('overview').hidden = $('grip').hidden = true;
  refilter();
  renderSide();
  new ResizeObserver(layout).observe(scroll);
  const wanted = byId.get(Number(location.hash.slice(1)));
  if (wanted) select(wanted, true);
}
