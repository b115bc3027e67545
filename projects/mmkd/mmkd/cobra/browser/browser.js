const PER_PAGE = 50;
const number = new Intl.NumberFormat('en');
const byId = (id) => document.getElementById(id);
const state = {
  frames: [],
  ids: new Map(),
  pairs: new Map(),
  texts: null,
  shown: [],
  page: 0,
  current: null,
  comparing: true,
};
let data = null;

/** Values of a filter's menu, each with its count. */
function fillMenu(menu, key, name) {
  const counts = new Map();
  for (const frame of state.frames) counts.set(frame[key], (counts.get(frame[key]) ?? 0) + 1);
  const values = [...counts.keys()].sort((a, b) => name(a).localeCompare(name(b), 'en'));
  menu.replaceChildren(make('option', { value: '' }, 'all'));
  for (const value of values) {
    const text = `${name(value)} (${number.format(counts.get(value))})`;
    menu.append(make('option', { value: JSON.stringify(value) }, text));
  }
}

/** Counts at the top of the page, and of the check boxes. */
function showTotals() {
  const predicted = state.frames.filter((frame) => frame.prediction);
  const failures = predicted.filter((frame) => !frame.prediction.format_ok).length;
  const wrong = predicted.filter((frame) => frame.prediction.wrong).length;
  const totals = [['frames', state.frames.length]];
  if (predicted.length) {
    totals.push(['predictions', predicted.length], ['parse failures', failures], ['wrong', wrong]);
  }
  byId('totals').replaceChildren(...totals.map(([name, count]) =>
    make('div', {}, make('dt', {}, name), make('dd', {}, number.format(count)))));
  byId('checks').hidden = !predicted.length;
}

/** The texts of a frame that a search looks through. */
function searchedText(frame) {
  const slots = [...data.context, ...data.slots].map(([slot]) => frame[slot]);
  const { slots: predicted, text } = frame.prediction ?? { slots: {}, text: '' };
  const texts = [frame.id, frame.statement, ...slots, ...Object.values(predicted), text];
  return texts.join('\n').toLowerCase();
}

/** The other side of a frame's pair, or null. */
function partnerOf(frame) {
  if (!frame.pair_id || !frame.side) return null;
  const pair = state.pairs.get(frame.pair_id);
  return pair.find((each) => each.side && each.side !== frame.side) ?? null;
}

/** Keeps the frames that fit, and shows the first page of them. */
function applyFilters() {
  const wanted = ['group', 'label', 'source', 'split']
    .map((key) => [key, byId(`filter-${key}`).value])
    .filter(([, value]) => value)
    .map(([key, value]) => [key, JSON.parse(value)]);
  const words = byId('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) {
    state.texts ??= new Map(state.frames.map((frame) => [frame, searchedText(frame)]));
  }
  const failures = byId('only-failures').checked;
  const wrong = byId('only-wrong').checked;
  state.shown = state.frames.filter((frame) =>
    wanted.every(([key, value]) => frame[key] === value)
    && (!failures || (frame.prediction && !frame.prediction.format_ok))
    && (!wrong || frame.prediction?.wrong)
    && words.every((word) => state.texts.get(frame).includes(word)));
  const [count, total] = [state.shown, state.frames].map((each) => number.format(each.length));
  const share = count === total ? `All ${total}` : `${count} of ${total}`;
  byId('found').textContent = `${share} frames`;
  byId('clear').hidden = !(wanted.length || words.length || failures || wrong);
  showPage(0);
  showPosition();
}

/** A frame in the list. */
function listRow(frame) {
  const signs = [labelChip(frame.label), ...predictionChips(frame)];
  const meta = make('span', { class: 'row-meta' }, ...signs);
  if (frame.group) meta.append(make('span', { dir: 'auto' }, frame.group));
  if (frame.side) meta.append(make('span', {}, `side ${frame.side}`));
  const link = make('a', { href: `#${encodeURIComponent(frame.id)}` },
    make('span', { class: 'row-text', dir: 'auto' }, frame.statement),
    make('span', { class: 'row-scene', dir: 'auto' }, frame.situation), meta);
  if (frame === state.current) link.setAttribute('aria-current', 'true');
  return make('li', {}, link);
}

/** Shows one page of the list; nothing else of it is in the document. */
function showPage(page) {
  state.page = page;
  const start = page * PER_PAGE;
  const rows = state.shown.slice(start, start + PER_PAGE);
  byId('rows').replaceChildren(...rows.map(listRow));
  byId('rows').scrollTop = 0;
  byId('nothing').hidden = rows.length > 0;
  byId('pages').hidden = state.shown.length <= PER_PAGE;
  byId('page').textContent = `${number.format(start + 1)}–${number.format(start + rows.length)}`;
  byId('page-back').disabled = page === 0;
  byId('page-on').disabled = start + PER_PAGE >= state.shown.length;
}

/** Says where the frame is in the list. */
function showPosition() {
  const at = state.shown.indexOf(state.current);
  const [place, count] = [at + 1, state.shown.length].map((each) => number.format(each));
  let position = at < 0 ? 'outside the filters' : `${place} of ${count}`;
  if (!state.current) position = '';
  byId('position').textContent = position;
  byId('previous').disabled = at === 0 || !state.shown.length;
  byId('next').disabled = at === state.shown.length - 1 || !state.shown.length;
}

/** Shows a frame, or what to do where there is none; a note says why there is none. */
function showFrame(frame, note = 'Choose a frame from the list, or press the right arrow key.') {
  state.current = frame;
  document.body.dataset.view = frame ? 'frame' : 'list';
  const view = frame
    ? frameView(frame, partnerOf(frame), state.comparing, data)
    : [make('p', { class: 'nothing' }, note)];
  byId('frame').replaceChildren(...view);
  const at = state.shown.indexOf(frame);
  const page = Math.floor(at / PER_PAGE);
  if (at >= 0 && page !== state.page) showPage(page);
  byId('rows').querySelector('[aria-current]')?.removeAttribute('aria-current');
  const link = at >= 0 ? byId('rows').children[at % PER_PAGE].firstChild : null;
  link?.setAttribute('aria-current', 'true');
  link?.scrollIntoView({ block: 'nearest' });
  showPosition();
}

/** Shows the frame that the address names. */
function followAddress() {
  let id = location.hash.slice(1);
  try {
    id = decodeURIComponent(id);
  } catch {
    // what cannot be decoded is looked up as it is, and not found
  }
  const frame = state.ids.get(id) ?? null;
  if (frame === state.current && frame) return;
  if (frame || !id) showFrame(frame);
  else showFrame(null, 'The page has no frame with the id in its address.');
  if (!frame) return;
  scrollUp();
  byId('statement').focus({ preventScroll: true });
}

/** Back to the list, at the row of the frame that was open. */
function toList() {
  const row = byId('rows').querySelector('[aria-current]');
  history.pushState(null, '', '#');
  showFrame(null);
  row?.focus();
}

/** To the top of the frame. */
function scrollUp() {
  byId('frame').parentElement.scrollTop = 0;
  if (document.body.dataset.view === 'frame') window.scrollTo(0, 0);
}

let addressTimer = 0;
/** Goes to a neighbour in the list; the address follows when the keys rest. */
function step(by) {
  const at = state.shown.indexOf(state.current);
  const frame = at < 0 ? state.shown[0] : state.shown[at + by];
  if (!frame) return;
  showFrame(frame);
  scrollUp();
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    if (state.current) history.replaceState(null, '', `#${encodeURIComponent(state.current.id)}`);
  }, 150);
}

/** Arrow keys step, except where they edit or choose. */
function onKey(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const busy = event.target.closest?.('input:not([type=checkbox]), select');
  if (!by || busy || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  step(by);
}

/** Switches between one context and both. */
function onChoice(event) {
  const button = event.target.closest('.choice button');
  if (!button) return;
  state.comparing = button.id === 'both-contexts';
  showFrame(state.current);
  byId(button.id).focus();
}

/** Reads the data and opens the page; nothing of them is shown before. */
function start() {
  data = JSON.parse(byId('data').textContent);
  state.frames = data.frames;
  for (const frame of state.frames) {
    state.ids.set(frame.id, frame);
    if (!frame.pair_id) continue;
    if (!state.pairs.has(frame.pair_id)) state.pairs.set(frame.pair_id, []);
    state.pairs.get(frame.pair_id).push(frame);
  }
  for (const key of ['group', 'source', 'split']) {
    fillMenu(byId(`filter-${key}`), key, (value) => value || 'none given');
  }
  fillMenu(byId('filter-label'), 'label', labelName);
  showTotals();
  applyFilters();
  let searchTimer = 0;
  byId('search').addEventListener('input', () => {
    clearTimeout(searchTimer);
    searchTimer = setTimeout(applyFilters, 120);
  });
  byId('filters').addEventListener('change', applyFilters);
  byId('filters').addEventListener('reset', () => setTimeout(applyFilters));
  byId('filters').addEventListener('submit', (event) => event.preventDefault());
  byId('page-back').addEventListener('click', () => showPage(state.page - 1));
  byId('page-on').addEventListener('click', () => showPage(state.page + 1));
  byId('previous').addEventListener('click', () => step(-1));
  byId('next').addEventListener('click', () => step(1));
  byId('to-list').addEventListener('click', toList);
  byId('frame').addEventListener('click', onChoice);
  document.addEventListener('keydown', onKey);
  window.addEventListener('hashchange', followAddress);
  byId('warning').remove();
  byId('data').remove();
  byId('app').hidden = false;
  byId('title').focus();
  followAddress();
}

byId('accept').addEventListener('click', start, { once: true });
byId('accept').disabled = false;
