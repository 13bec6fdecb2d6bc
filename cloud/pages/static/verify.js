// Checks a proof pack in the reader's own browser. No dependency, no network, no storage but one remembered tree head.
//
// The rules are those of traceability/packs.py, in the same order; tests feed both checkers the same tampered packs.
// `check(pack, policy)` is the whole checker and knows no page. The second half of this file is the page: ONE element
// carries the verdict, it is neutral until every rule has passed, and a fact on the page counts only when it is
// letter for letter the fact in the pack.
//
// An honest limit: this file, the pack and the keys come from the same server. They show that the record was not changed
// after it was written into a log that others watch; they prove nothing against a server that lies in all three at once.
// For that there is the fingerprint to compare with the label, and `tianmai-trace verify` with keys from elsewhere.

const MAX_BYTES = 1024 * 1024;
const MAX_EVENTS = 500;
const MAX_DEPTH = 64;
const FIELD = /^[a-z][a-z0-9_]{0,47}$/;
const FUTURE_MS = 300_000; // clocks of two honest machines differ by less
const TYPE_NOTE = 1;
const TYPE_COSIGNATURE = 4;
const PRIME = 2n ** 255n - 19n;
const GROUP_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const ORDER_EIGHT_Y = 2707385501144840649318225287225658788936804267575313519463743609750303402022n;
const LOW_ORDER_Y = new Set([0n, 1n, PRIME - 1n, ORDER_EIGHT_Y, PRIME - ORDER_EIGHT_Y]);
const STANDING = new Set(["recalled", "void", "unissued"]);
const encoder = new TextEncoder();

/** A rule that does not hold: which rule, and in which event (counted from 1, 0 = the pack as a whole). */
export class Failed extends Error {
  constructor(rule, event = 0) {
    super(`${rule} ${event}`);
    this.rule = rule;
    this.event = event;
  }
}

/** The browser lacks what checking needs. Says nothing about the record. */
export class CannotCheck extends Error {}

/**
 * Check `text` (the pack) against `policy` (the JSON form of traceability/policy.py).
 * Gives {subject, events, heads: [{origin, size, root, root64, key, hint, times}]} or throws Failed or CannotCheck.
 */
export async function check(text, policy, { now = Date.now(), subtle = globalThis.crypto?.subtle, fallback } = {}) {
  if (!subtle) throw new CannotCheck("no crypto.subtle");
  const tools = { subtle, fallback, sha256: async (bytes) => new Uint8Array(await subtle.digest("SHA-256", bytes)) };
  const pack = formOf(text);
  const heads = [];
  for (const checkpoint of checkpointsOf(pack)) {
    const head = await headOf(checkpoint, policy, now, tools);
    if (heads.some((before) => before.origin === head.origin)) throw new Failed("checkpoint");
    heads.push(head);
  }
  for (const [at, event] of pack.events.entries()) await eventHolds(event, at + 1, heads[logOf(event)], tools);
  inOrder(pack.events);
  reachesSubject(pack);
  return { subject: pack.subject, events: pack.events, heads };
}

// --- 1. the form: canonical JSON, known keys only ---------------------------------------------------------------

/** Canonical JSON of a value (RFC 8785 without fractions): what is hashed. */
export function canonical(value, depth = MAX_DEPTH) {
  if (depth < 0) throw new Failed("form");
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") {
    if (/\p{Surrogate}/u.test(value)) throw new Failed("form");
    return JSON.stringify(value);
  }
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) throw new Failed("form");
    return String(value);
  }
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item, depth - 1)).join(",")}]`;
  const keys = Object.keys(value).sort();
  return `{${keys.map((key) => `${canonical(key, depth)}:${canonical(value[key], depth - 1)}`).join(",")}}`;
}

function formOf(text) {
  if (encoder.encode(text).length > MAX_BYTES) throw new Failed("form");
  let pack;
  try {
    pack = JSON.parse(text);
  } catch {
    throw new Failed("form");
  }
  // Parsing forgives much (double keys, 1.0, free spaces); writing it again and comparing forgives nothing.
  if (canonical(pack).replaceAll("<", "\\u003c") !== text) throw new Failed("form");
  // The second form is for events of several logs: a log has a shard a year.
  const several = pack?.format === "tianmai-pack@2";
  exactly(pack, [several ? "checkpoints" : "checkpoint", "events", "format", "subject"]);
  if (!several && pack.format !== "tianmai-pack@1") throw new Failed("form");
  const checkpoints = checkpointsOf(pack);
  if (typeof pack.subject !== "string" || !Array.isArray(checkpoints)) throw new Failed("form");
  if (!checkpoints.every((note) => typeof note === "string")) throw new Failed("form");
  if (!Array.isArray(pack.events) || !pack.events.length || pack.events.length > MAX_EVENTS) throw new Failed("form");
  pack.events.forEach((event, at) => eventForm(event, at + 1, several));
  if (several && checkpoints.length === 1) throw new Failed("form");
  pack.events.forEach((event, at) => { if (logOf(event) >= checkpoints.length) throw new Failed("form", at + 1); });
  if (new Set(pack.events.map(logOf)).size !== checkpoints.length) throw new Failed("form");
  return pack;
}

function checkpointsOf(pack) {
  return pack.checkpoints ?? [pack.checkpoint];
}

/** The number of the checkpoint that an event stands under. */
function logOf(event) {
  return event.log ?? 0;
}

function eventForm(event, number, several) {
  exactly(event, ["disclosed", "index", "leaf", ...(several ? ["log"] : []), "proof"], number);
  const { leaf } = event;
  if (!isObject(leaf) || leaf.format !== "tianmai-leaf@1") throw new Failed("form", number);
  const texts = (list) => Array.isArray(list) && list.every((item) => typeof item === "string" && item !== "");
  const whole =
    Number.isSafeInteger(leaf.when) && typeof leaf.what === "string" &&
    texts(leaf.inputs) && texts(leaf.outputs) && leaf.outputs.length > 0 && texts(event.proof) &&
    isCount(event.index) && isCount(logOf(event)) && isObject(leaf.commitments) && isObject(event.disclosed);
  if (!whole) throw new Failed("form", number);
  const names = [...Object.keys(leaf), ...Object.keys(leaf.commitments)];
  if (new Set(names).size !== names.length || !names.every((name) => FIELD.test(name))) throw new Failed("form", number);
  for (const hash of [...Object.values(leaf.commitments), ...event.proof]) fromBase64(hash, 32, number);
  for (const opening of Object.values(event.disclosed)) {
    exactly(opening, ["salt", "value"], number);
    fromBase64(opening.salt, 16, number);
  }
}

function isCount(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function exactly(value, keys, number = 0) {
  if (!isObject(value) || Object.keys(value).sort().join() !== keys.join()) throw new Failed("form", number);
}

function fromBase64(text, length, number = 0) {
  let raw;
  try {
    raw = atob(text);
  } catch {
    throw new Failed("form", number);
  }
  // One value, one spelling: atob also takes unpadded text and stray bits in the last letter.
  if (typeof text !== "string" || btoa(raw) !== text) throw new Failed("form", number);
  if (length !== undefined && raw.length !== length) throw new Failed("form", number);
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
}

// --- 2. and 3. the checkpoint: whose signatures, when ------------------------------------------------------------

async function headOf(note, policy, now, tools) {
  const parts = /^([^\n]+)\n(0|[1-9][0-9]{0,15})\n([^\n]+)\n\n((?:\u2014 [^ +\n]+ [^ \n]+\n)+)$/.exec(note);
  if (parts === null) throw new Failed("checkpoint");
  const [, origin, digits, root64, tail] = parts;
  if (!Number.isSafeInteger(Number(digits))) throw new Failed("checkpoint");
  const { logs, witnesses } = await keysOf(policy, origin, tools);
  const signers = await signersOf(tail, note.slice(0, note.length - tail.length - 1), [...logs, ...witnesses], tools);
  if (!logs.includes(signers[0].key)) throw new Failed("log_key");
  const times = signers.filter(({ time }) => time !== undefined);
  if (times.some(({ time }) => time > now + FUTURE_MS)) throw new Failed("time");
  const counted = times.filter(({ key, time }) => countsAt(key, time)).map(({ time }) => time);
  if (counted.length < policy.quorum) throw new Failed("quorum");
  const moments = counted.length ? counted : [now];
  const speaker = signers.find(({ key }) => logs.includes(key) && moments.every((time) => countsAt(key, time)));
  if (speaker === undefined) throw new Failed("log_key");
  return { origin, size: Number(digits), root: fromBase64(root64, 32), root64, key: speaker.key.vkey, hint: speaker.key.hint, times: counted };
}

async function keysOf(policy, origin, tools) {
  const known = async (items) => Promise.all(items.map(async (item) => ({ ...(await keyOf(item.vkey, tools)), ...item })));
  if (policy.format !== "tianmai-policy@1") throw new Failed("policy");
  const logs = await known(policy.logs.filter((log) => log.origin === origin));
  if (!logs.length) throw new Failed("log_key");
  return { logs, witnesses: await known(policy.witnesses ?? []) };
}

/** Who signed, in order. Every line must be by a key of the policy, once, and stand. */
async function signersOf(tail, text, keys, tools) {
  const signers = [];
  for (const line of tail.split("\n").slice(0, -1).map(signatureOf)) {
    const key = keys.find((candidate) => line.name === candidate.name && hex(line.id) === candidate.hint);
    const rule = key?.type === TYPE_NOTE || signers.length === 0 ? "log_key" : "witness_key";
    if (key === undefined || signers.some((signer) => signer.key === key)) throw new Failed(rule);
    signers.push({ key, time: await timeOf(line.bytes, text, key, rule, tools) });
  }
  return signers;
}

/** The time a cosignature states (ms), undefined for a plain signature. */
async function timeOf(blob, text, key, rule, tools) {
  if (key.type === TYPE_NOTE) {
    if (!(await signed(blob, encoder.encode(text), key.point, tools))) throw new Failed(rule);
    return undefined;
  }
  if (key.type !== TYPE_COSIGNATURE || blob.length !== 72) throw new Failed(rule);
  const seconds = new DataView(blob.buffer, blob.byteOffset, 8).getBigUint64(0);
  const message = encoder.encode(`cosignature/v1\ntime ${seconds}\n${text}`);
  if (!(await signed(blob.slice(8), message, key.point, tools))) throw new Failed(rule);
  return Number(seconds) * 1000;
}

function countsAt(key, time) {
  return (key.from === undefined || key.from <= time) && (key.until === undefined || time < key.until);
}

function signatureOf(line) {
  const [, name, blob] = line.split(" ");
  const bytes = fromBase64(blob);
  if (bytes.length < 5) throw new Failed("checkpoint");
  return { name, id: bytes.slice(0, 4), bytes: bytes.slice(4) };
}

/** The parts of a vkey `name+8 hex digits+base64(type byte, 32 bytes of key)`; its own hash must fit. */
async function keyOf(vkey, tools) {
  const parts = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(vkey);
  if (parts === null) throw new Failed("policy");
  const body = fromBase64(parts[3], 33);
  const id = (await tools.sha256(join(encoder.encode(`${parts[1]}\n`), body))).slice(0, 4);
  if (hex(id) !== parts[2]) throw new Failed("policy");
  return { name: parts[1], hint: parts[2], type: body[0], point: body.slice(1) };
}

/** The strict rule of traceability/keys.py: browsers disagree on odd signatures, so odd ones are refused first. */
async function signed(signature, message, publicKey, tools) {
  if (signature.length !== 64 || littleEndian(signature.slice(32)) >= GROUP_ORDER) return false;
  if (!sound(publicKey) || !sound(signature.slice(0, 32))) return false;
  let key;
  try {
    key = await tools.subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
  } catch {
    // An older browser: the bundled implementation, if the server has one.
    if (!tools.fallback) throw new CannotCheck("no Ed25519");
    const { verify } = await import(tools.fallback).catch(() => { throw new CannotCheck("no Ed25519"); });
    return verify(signature, message, publicKey);
  }
  return tools.subtle.verify("Ed25519", key, signature, message);
}

/** A point in canonical form and not of low order. */
function sound(point) {
  const y = littleEndian(point) & (2n ** 255n - 1n);
  return y < PRIME && !LOW_ORDER_Y.has(y);
}

function littleEndian(bytes) {
  return BigInt(`0x${hex(bytes.slice().reverse())}`);
}

// --- 4. and 5. each event: in the tree, openings fit --------------------------------------------------------------

async function eventHolds(event, number, head, tools) {
  const entry = encoder.encode(canonical(event.leaf));
  const root = await rootFrom(await tools.sha256(join([0], entry)), event, number, head.size, tools);
  if (hex(root) !== hex(head.root)) throw new Failed("inclusion", number);
  for (const [field, { salt, value }] of Object.entries(event.disclosed)) {
    if (!Object.hasOwn(event.leaf.commitments, field)) throw new Failed("disclosed", number);
    const opened = await tools.sha256(join(fromBase64(salt), encoder.encode(canonical(value))));
    if (toBase64(opened) !== event.leaf.commitments[field]) throw new Failed("disclosed", number);
  }
}

/** RFC 9162, 2.1.3.2. Division instead of shifts: indices may pass 2^31. */
async function rootFrom(leafHash, event, number, size, tools) {
  if (event.index >= size) throw new Failed("inclusion", number);
  let [here, last, hash] = [event.index, size - 1, leafHash];
  const half = (n) => Math.floor(n / 2);
  for (const step of event.proof) {
    if (last === 0) throw new Failed("inclusion", number);
    const sibling = fromBase64(step, 32, number);
    if (here % 2 === 1 || here === last) {
      hash = await tools.sha256(join([1], sibling, hash));
      while (here % 2 === 0 && here !== 0) [here, last] = [half(here), half(last)];
    } else {
      hash = await tools.sha256(join([1], hash, sibling));
    }
    [here, last] = [half(here), half(last)];
  }
  if (last !== 0) throw new Failed("inclusion", number);
  return hash;
}

// --- 6. and 7. the events together: one order, one life -------------------------------------------------------------

function inOrder(events) {
  const place = (event) => [event.leaf.when, logOf(event), event.index];
  for (let at = 1; at < events.length; at += 1) {
    const [one, next] = [place(events[at - 1]), place(events[at])];
    const differs = one.findIndex((value, n) => value !== next[n]);
    if (differs === -1 || one[differs] > next[differs]) throw new Failed("order", at + 1);
  }
  if (new Set(events.map((event) => `${logOf(event)} ${event.index}`)).size !== events.length) throw new Failed("order");
}

function reachesSubject({ subject, events }) {
  if (!events.at(-1).leaf.outputs.includes(subject)) throw new Failed("subject", events.length);
  const reached = new Set([subject]);
  for (let at = events.length - 1; at >= 0; at -= 1) {
    const { inputs, outputs } = events[at].leaf;
    if (!outputs.some((thing) => reached.has(thing))) throw new Failed("subject", at + 1);
    for (const thing of [...inputs, ...outputs]) reached.add(thing);
  }
}

function join(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

// --- the page ---------------------------------------------------------------------------------------------------------

if (globalThis.document?.getElementById("pack")) void page();

async function page() {
  const verdict = document.getElementById("verdict");
  const told = JSON.parse(document.getElementById("told").textContent);
  // A recall, a void or a never issued code stands above everything a proof can say: the check still runs, its result is
  // a line below, never a headline.
  const standing = STANDING.has(verdict.dataset.state) ? verdict.dataset.state : null;
  const say = (state, line) => show(verdict, told, standing ?? state, line ?? told.words[`${state}_line`]);
  try {
    if (standing === null) say("checking");
    const policy = JSON.parse(document.getElementById("policy").textContent);
    const result = await check(document.getElementById("pack").textContent, policy, { fallback: told.fallback });
    const ours = result.heads.every((head) => head.hint === told.fingerprint);
    if (result.subject !== told.subject || !ours || !samePage(result.events)) throw new Failed("page");
    for (const memory of result.heads.map(remember)) if (memory !== "kept") throw new Failed(memory);
    for (const mark of document.querySelectorAll("[data-event]")) mark.classList.add("is-checked");
    const outcome = told.complete ? "passed" : "partial";
    say(outcome, told.words[standing === null ? `${outcome}_line` : `${standing}_checked`]);
  } catch (problem) {
    if (problem instanceof Failed) {
      const where = problem.event ? told.words.at_event.replace("{n}", String(problem.event)) : "";
      say("mismatch", `${told.words[`rule_${problem.rule}`] ?? told.words.mismatch_line}${where}`);
    } else {
      say("cannot", told.words.cannot_line);
    }
  }
}

function show(verdict, told, state, line) {
  verdict.dataset.state = state;
  verdict.querySelector("h1").textContent = told.words[state];
  verdict.querySelector("p").textContent = line;
}

/**
 * Whether the page says what the pack says. Each step shown must be an event of the pack, at its time; each name marked
 * `data-said` (product, places, who signed) must stand in the pack letter for letter.
 */
function samePage(events) {
  const known = new Set(events.flatMap((event) => Object.values(event.disclosed).flatMap(({ value }) => textsIn(value))));
  const said = Array.from(document.querySelectorAll("[data-said]"), (element) => element.textContent);
  return said.every((text) => known.has(text)) && Array.from(document.querySelectorAll("[data-event]")).every((step) =>
    step.querySelector("time").textContent === chinaTime(Number(step.dataset.when)) &&
    events.some(({ leaf, disclosed }) =>
      disclosed.event?.value === step.dataset.event && leaf.when === Number(step.dataset.when)));
}

/** All texts inside a value; a text that is JSON itself (the public view of an event) is opened. */
function textsIn(value) {
  if (typeof value === "string") {
    try {
      const inner = value.startsWith("{") ? JSON.parse(value) : null;
      return inner === null ? [value] : textsIn(inner);
    } catch {
      return [value];
    }
  }
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(textsIn) : [];
}

function chinaTime(ms) {
  return new Date(ms + 8 * 3_600_000).toISOString().slice(0, 16).replace("T", " ");
}

/** A log only grows. A smaller tree than last time, or another root at the same size, is told to the reader. */
function remember(head) {
  const name = `tianmai-head ${head.origin} ${head.key}`;
  try {
    const [size, root] = (localStorage.getItem(name) ?? "0 ").split(" ");
    if (head.size < Number(size)) return "rollback";
    if (head.size === Number(size) && root !== head.root64) return "fork";
    localStorage.setItem(name, `${head.size} ${head.root64}`);
  } catch {
    // Storage may be switched off; then there is no memory, and the check itself stands.
  }
  return "kept";
}
