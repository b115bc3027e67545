'use strict';

const LABELS = new Map([[1, 'offensive'], [0, 'not offensive'], [-1, 'annotators disagree']]);
const YES_OR_NO = new Map([[1, 'yes'], [0, 'no'], [-1, 'annotators disagree']]);
const LABEL_SOURCES = {
  label_majority: 'Label by the majority of annotators',
  label_all: 'Label by all annotators',
  offensive_bin: 'Label by the binarizer',
  more_offensive: 'More offensive side of its pair',
};

/** An element. Texts go in as text nodes, so that no text can become markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A label in words. */
function labelName(label) {
  return LABELS.get(label) ?? 'no label';
}

/** A small sign; its kind decides its colour. */
function chip(text, kind = 'plain') {
  return make('span', { class: `chip ${kind}`, dir: 'auto' }, text);
}

/** A label as a sign. */
function labelChip(label) {
  return chip(labelName(label), { 0: 'good', 1: 'bad' }[label] ?? 'plain');
}

/** What is noteworthy of a prediction, as signs. */
function predictionChips(frame) {
  const prediction = frame.prediction;
  if (!prediction) return [];
  const found = [];
  if (!prediction.format_ok) found.push(chip('parse failure', 'warn'));
  if (prediction.wrong) found.push(chip('wrong prediction', 'bad'));
  return found;
}

/** A text of a frame, or a dash that says that there is none. */
function textOrDash(text) {
  if (text.trim()) return make('span', { class: 'text', dir: 'auto' }, text);
  return make('span', { class: 'empty' }, '— empty');
}

/** Whether a prediction says the same as the reference: white space does not count. */
function verdict(frame, slot) {
  if (!frame.prediction) return '';
  const [reference, predicted] = [frame[slot], frame.prediction.slots[slot] ?? '']
    .map((text) => text.trim().replace(/\s+/g, ' '));
  if (!reference) return '';
  if (!predicted) return 'missing';
  return predicted === reference ? 'same' : 'differs';
}

/** The sign of a verdict, if it has one. */
function verdictChips(said) {
  return said === 'differs' || said === 'missing' ? [chip(said, 'warn')] : [];
}

/** A row of a table: a slot, its sign, and its texts under the names of their columns. */
function slotRow(name, said, cells) {
  const row = make('tr', said ? { class: said } : {});
  row.append(make('th', { scope: 'row' }, name, ' ', ...verdictChips(said)));
  for (const [column, kind, content] of cells) {
    row.append(make('td', { 'data-column': column, class: kind }, content));
  }
  return row;
}

/** A table with the names of its columns. */
function table(caption, kind, columns, ...bodies) {
  const head = make('tr', {}, make('th', { scope: 'col' }, 'Slot'));
  for (const column of columns) head.append(make('th', { scope: 'col' }, column));
  return make(
    'table',
    { class: kind },
    make('caption', { class: 'hidden-name' }, caption),
    make('thead', {}, head),
    ...bodies,
  );
}

/** The context of one frame. */
function contextCards(frame, data) {
  const cards = make('dl', { class: 'cards' });
  for (const [slot, name] of data.context) {
    cards.append(make('div', {}, make('dt', {}, name), make('dd', {}, textOrDash(frame[slot]))));
  }
  return cards;
}

/** Reference and prediction of one frame, slot by slot. */
function slotsTable(frame, data) {
  const body = make('tbody');
  for (const [slot, name] of data.slots) {
    const cells = [['Reference', 'reference', textOrDash(frame[slot])]];
    if (frame.prediction) {
      const predicted = frame.prediction.slots[slot] ?? '';
      cells.push(['Prediction', 'prediction', textOrDash(predicted)]);
    }
    body.append(slotRow(name, verdict(frame, slot), cells));
  }
  const columns = frame.prediction ? ['Reference', 'Prediction'] : ['Reference'];
  return table('Explanation', frame.prediction ? 'two' : 'one', columns, body);
}

/** A slot of one side of a pair: the reference, and the prediction below it. */
function pairCell(frame, slot) {
  if (!frame.prediction) return textOrDash(frame[slot]);
  const said = verdict(frame, slot);
  const kind = make('span', { class: 'kind' }, 'Prediction ', ...verdictChips(said));
  const reference = make('span', { class: 'kind' }, 'Reference');
  const predicted = textOrDash(frame.prediction.slots[slot] ?? '');
  return make(
    'div',
    {},
    make('div', { class: 'said' }, reference, textOrDash(frame[slot])),
    make('div', { class: `said prediction ${said}` }, kind, predicted),
  );
}

/** Two contexts of one pair, side A first. */
function pairTable(sides, data) {
  const context = make('tbody');
  const explanation = make('tbody');
  const columns = sides.map((frame) =>
    make('span', { class: 'side' }, `Side ${frame.side}`, ...outcomeChips(frame)));
  const row = (slot, name, content) =>
    slotRow(name, '', sides.map((frame) => [`Side ${frame.side}`, '', content(frame, slot)]));
  const asItIs = (frame, slot) => textOrDash(frame[slot]);
  if (sides[0].statement !== sides[1].statement) {
    context.append(row('statement', 'Statement', asItIs));
  }
  for (const [slot, name] of data.context) {
    context.append(row(slot, name, asItIs));
  }
  for (const [slot, name] of data.slots) explanation.append(row(slot, name, pairCell));
  return table('Both contexts', 'two pair', columns, context, explanation);
}

/** How many slots differ, in words. */
function summary(frame, data) {
  const said = data.slots.map(([slot]) => verdict(frame, slot));
  const compared = said.filter(Boolean).length;
  const other = said.filter((each) => each === 'differs' || each === 'missing').length;
  return compared ? `${other} of ${compared} slots differ from the reference` : '';
}

/** What was generated: open if it could not be parsed, closed if it could; only one of these. */
function generatedText(frame, name, failures) {
  const prediction = frame.prediction;
  if (!prediction || prediction.format_ok === failures) return [];
  if (prediction.format_ok && !prediction.text) return [];
  const failure = `Parse failure${name}: the text as it was generated`;
  const details = make(
    'details',
    { class: `raw ${prediction.format_ok ? '' : 'failure'}` },
    make('summary', {}, prediction.format_ok ? `Generated text${name}` : failure),
    make('pre', { dir: 'auto' }, prediction.text || '(nothing was generated)'),
  );
  details.open = !prediction.format_ok;
  return [details];
}

/** Labels and provenance. */
function aboutFrame(frame) {
  const list = make('dl', { class: 'about' });
  const told = Object.entries(frame.labels).map(([name, label]) => {
    const words = name === 'more_offensive' ? YES_OR_NO : LABELS;
    return [LABEL_SOURCES[name], words.get(label)];
  });
  for (const [name, value] of [...told, ...frame.about]) {
    const term = make('dt', { dir: 'auto' }, name);
    list.append(make('div', {}, term, make('dd', { dir: 'auto' }, value)));
  }
  return make('details', { class: 'more' }, make('summary', {}, 'Labels and provenance'), list);
}

/** The signs of a label and of a prediction. */
function outcomeChips(frame) {
  const found = [labelChip(frame.label)];
  if (frame.prediction) {
    const binary = frame.prediction.binary;
    found.push(chip(`predicted: ${binary === null ? 'undecided' : labelName(binary)}`));
  }
  return [...found, ...predictionChips(frame)];
}

/** The signs under a statement; those of both sides stand in the head of their table. */
function frameChips(frame, paired) {
  const found = paired ? [] : outcomeChips(frame);
  for (const name of ['group', 'source', 'split']) {
    if (frame[name]) found.push(chip(`${name}: ${frame[name]}`));
  }
  if (frame.side && !paired) found.push(chip(`side ${frame.side}`));
  return make('p', { class: 'chips' }, ...found);
}

/** A whole frame; `partner` is the other side of its pair and may be null. */
function frameView(frame, partner, comparing, data) {
  const heading = make('h2', { id: 'statement', tabindex: '-1', dir: 'auto' }, frame.statement);
  const paired = partner !== null && comparing;
  const parts = [heading, frameChips(frame, paired)];
  if (partner) {
    const choice = make('div', { class: 'choice', role: 'group', 'aria-label': 'Contexts' });
    const button = (id, name, on) =>
      make('button', { id, type: 'button', 'aria-pressed': String(on) }, name);
    choice.append(button('one-context', 'This context', !comparing));
    choice.append(button('both-contexts', 'Both contexts', comparing));
    parts.push(choice);
  }
  if (paired) {
    const sides = frame.side === 'A' ? [frame, partner] : [partner, frame];
    const generated = (failures) =>
      sides.flatMap((each) => generatedText(each, `, side ${each.side}`, failures));
    parts.push(...generated(true), pairTable(sides, data), ...generated(false));
  } else {
    parts.push(make('h3', {}, 'Context'), contextCards(frame, data));
    parts.push(...generatedText(frame, '', true));
    parts.push(make('h3', {}, 'Explanation ', make('small', {}, summary(frame, data))));
    parts.push(slotsTable(frame, data), ...generatedText(frame, '', false));
  }
  parts.push(aboutFrame(frame));
  return parts;
}
