'use strict';
const $ = id => document.getElementById(id);
const make = (name, text = '', cls = '') => {
  const element = document.createElement(name);
  element.textContent = text;
  if (cls) element.className = cls;
  return element;
};
const count = n => n.toLocaleString('en');
const size = n => n < 1024 ? `${n} B` : n < 1048576 ? `${+(n / 1024).toFixed(1)} KB` : `${+(n / 1048576).toFixed(1)} MB`;
const ms = t => t === undefined ? '–' : t < 10 ? `${t.toFixed(2)} ms` : t < 1000 ? `${t.toFixed(0)} ms` : `${(t / 1000).toFixed(1)} s`;
const address = path => new URL(path, location.href.replace(/^http/, 'ws'));

// ---- a WebSocket that comes back: doubling pauses up to five seconds, each with its share of chance, so that many
// clients cut off together don't return together.
function lasting(path, on) {
  let socket, pause = 0, timer;
  const open = () => {
    clearTimeout(timer);
    socket = new WebSocket(address(path));
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => { pause = 0; on.open(socket); };
    socket.onmessage = event => on.message(event.data);
    socket.onclose = event => {
      const wait = pause * (.5 + Math.random() / 2);
      pause = Math.min(pause * 2 || 250, 5000);
      on.close(event, wait);
      timer = setTimeout(open, wait);
    };
  };
  const now = () => { if (socket.readyState === WebSocket.CLOSED) { pause = 0; open(); } };
  addEventListener('online', now);
  document.addEventListener('visibilitychange', () => document.hidden || now());
  open();
  return { send: data => socket.send(data), close: why => socket.close(1000, why), ready: () => socket.readyState === WebSocket.OPEN };
}

function state(name, text = name) {
  $('status').dataset.state = name;
  $('status').textContent = text;
  document.title = `${text} · Tidegate`;
}

// ---- the frames
const ROWS = 200;
function row(direction, type, bytes, content, trip, cls = '', date = new Date()) {
  const tr = make('tr', '', `${direction === '↓' ? 'in' : 'out'} ${cls}`);
  // RFC 6455, section 5.2: two bytes, a longer length when needed, and a mask from the client.
  const frame = bytes + 2 + (bytes > 65535 ? 8 : bytes > 125 ? 2 : 0) + (direction === '↑' ? 4 : 0);
  const time = date.toTimeString().slice(0, 8) + '.' + String(date.getMilliseconds()).padStart(3, '0');
  const known = bytes !== null;
  [time, direction, type, known ? size(bytes) : '', known ? size(frame) : '', content, trip === undefined ? '' : ms(trip)]
    .forEach((text, at) => tr.append(make('td', text, at === 3 || at === 4 || at === 6 ? 'n' : '')));
  $('log').prepend(tr);
  if ($('log').rows.length > ROWS) $('log').lastChild.remove();
}

// ---- the echo: a probe every half second, and whatever the buttons send. Answers come in order, so a queue is enough.
const PROBE_MS = 500, LOST_MS = 10000, KEPT = 600, SHOWN = 120;
const trips = [];
let waiting = [], number = 0, sent = 0, received = 0, reconnects = -1, since = 0, burst = null;

const echo = lasting('ws/echo', {
  open() {
    reconnects++;
    since = performance.now();
    row('·', 'open', null, reconnects ? 'again' : '', undefined, 'mark');
    probe();
  },
  message(data) {
    const first = waiting.shift(), now = performance.now();
    received++;
    if (!first) return;
    if (first.burst) return burstAnswer(now);
    const trip = now - first.at;
    // The first probe competes with the page's own start.
    if (first.probe && number > 1) {
      trips.push(trip);
      if (trips.length > KEPT) trips.shift();
      draw();
    }
    // Touching the page while a probe is out would time the painting; so its two rows come together.
  if (first.probe) row('↑', first.type, first.bytes, first.content, undefined, 'probe', first.probe);
  row('↓', first.type, data.byteLength ?? first.bytes, first.content, trip, first.probe ? 'probe' : '');
    if ($('status').dataset.state !== 'live') state('live');
    figures();
  },
  close(event, wait) {
    if (since) {
      row('·', 'close', null, `${event.code} ${event.reason || (event.wasClean ? '' : 'lost')}`, undefined, 'mark');
      trips.push(null);
    }
    waiting = [];
    burst = null;
    since = 0;
    state('waiting', wait < 1000 ? 'reconnecting' : `reconnecting in ${Math.ceil(wait / 1000)} s`);
    draw();
    figures();
  },
});

function send(data, entry) {
  if (!echo.ready()) return;
  const bytes = data.byteLength ?? data.length;
  waiting.push({ at: performance.now(), bytes, ...entry });
  sent++;
  echo.send(data);
  if (entry.type && !entry.probe) row('↑', entry.type, bytes, entry.content);
}

function probe() {
  if (!echo.ready()) return;
  const content = `probe ${++number}`;
  send(content, { type: 'text', content, probe: new Date() });
}

setInterval(() => {
  const oldest = waiting[0];
  if (oldest && performance.now() - oldest.at > LOST_MS) return echo.close('no answer');
  // A probe behind a megabyte would time the megabyte.
  if (!waiting.length) probe();
}, PROBE_MS);

document.querySelectorAll('[data-send]').forEach(button => button.onclick = () => {
  const bytes = +button.dataset.send;
  send(new Uint8Array(bytes).fill(42), { type: 'binary', content: `${size(bytes)} of 0x2a` });
});

$('burst').onclick = () => {
  if (burst || !echo.ready()) return;
  const data = 'x'.repeat(64);
  burst = { at: performance.now(), left: 1000 };
  row('↑', 'text', 64, 'a burst of 1,000');
  for (let i = 0; i < 1000; i++) send(data, { burst: true });
};
function burstAnswer(now) {
  if (--burst.left) return;
  const took = now - burst.at;
  row('↓', 'text', 64, 'the last of 1,000', took);
  $('said').textContent = `1,000 messages there and back in ${ms(took)}: ${count(Math.round(1e6 / took))} a second.`;
  burst = null;
  figures();
}

$('drop').onclick = () => echo.close('you asked for it');
$('probes').onchange = event => $('log').classList.toggle('quiet', !event.target.checked);

// ---- figures and graph
let median, p99;
function figures() {
  const sorted = trips.filter(trip => trip !== null).sort((a, b) => a - b);
  const at = share => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  [median, p99] = [at(.5), at(.99)];
  const age = since ? Math.floor((performance.now() - since) / 1000) : 0;
  const two = n => String(n).padStart(2, '0');
  const shown = {
    median: ms(median), p99: ms(p99), reconnects: count(Math.max(reconnects, 0)), sent: count(sent), received: count(received),
    age: since ? `${age >= 3600 ? Math.floor(age / 3600) + ':' : ''}${two(Math.floor(age / 60) % 60)}:${two(age % 60)}` : '–',
  };
  for (const id in shown) if ($(id).textContent !== shown[id]) $(id).textContent = shown[id];
  $('graph').setAttribute('aria-label', `Round-trip times of the last minute: median ${ms(median)}, 99th percentile ${ms(p99)}`);
}

const canvas = $('graph'), LEFT = 50, FOOT = 4;
let pointed = -1;
function draw() {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext('2d'), style = getComputedStyle(document.documentElement);
  const color = name => style.getPropertyValue(name);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);

  const shown = trips.slice(-SHOWN), real = shown.filter(trip => trip !== null);
  const highest = Math.max(.1, ...real);
  // One slow answer must not flatten the rest: what is past four medians is cut, and told by a lighter tip.
  const wanted = Math.min(highest, Math.max(4 * (median || highest), .1)) * 1.05;
  const unit = 10 ** Math.floor(Math.log10(wanted)), top = [1, 2, 3, 4, 5, 6, 8, 10].find(step => step * unit >= wanted) * unit;
  const y = value => height - FOOT - (height - FOOT - 10) * Math.min(value / top, 1);

  pen.font = `11px ${color('--mono')}`;
  pen.textAlign = 'right';
  pen.textBaseline = 'middle';
  pen.lineWidth = 1;
  for (const part of [0, .5, 1]) {
    const at = Math.round(y(top * part)) + .5;
    pen.strokeStyle = color('--line');
    pen.beginPath(); pen.moveTo(LEFT, at); pen.lineTo(width, at); pen.stroke();
    pen.fillStyle = color('--soft');
    const mark = top * part, unit = top < 1000 ? `${+mark.toPrecision(2)} ms` : `${+(mark / 1000).toPrecision(2)} s`;
    pen.fillText(part ? unit : '0', LEFT - 8, part ? at : at - 4);
  }
  const step = (width - LEFT) / SHOWN, bar = Math.max(1.5, Math.min(step - 2, 6));
  shown.forEach((trip, at) => {
    const x = width - (shown.length - at) * step + (step - bar) / 2;
    pen.fillStyle = color(trip === null ? '--warn' : '--tide');
    pen.globalAlpha = trip === null ? .9 : at === pointed ? 1 : .62;
    pen.fillRect(x, y(trip ?? top), bar, height - FOOT - y(trip ?? top));
    if (trip > top) { pen.globalAlpha = .3; pen.fillRect(x, 3, bar, 7); }
  });
  pen.globalAlpha = 1;
  if (median) {
    pen.strokeStyle = color('--ink');
    pen.setLineDash([3, 3]);
    pen.beginPath(); pen.moveTo(LEFT, Math.round(y(median)) + .5); pen.lineTo(width, Math.round(y(median)) + .5); pen.stroke();
    pen.setLineDash([]);
  }
  return { step, shown, width };
}
function point(event) {
  const { step, shown, width } = draw(), box = canvas.getBoundingClientRect(), x = event.clientX - box.left;
  pointed = shown.length - Math.ceil((width - x) / step);
  const trip = shown[pointed];
  $('reading').textContent = trip === undefined ? '' : trip === null ? 'connection lost' : ms(trip);
  $('reading').style.transform = `translateX(${Math.min(Math.max(x - 25, LEFT), width - 110)}px)`;
  draw();
}
canvas.onpointermove = point;
canvas.onpointerleave = () => { pointed = -1; $('reading').textContent = ''; draw(); };
new ResizeObserver(draw).observe(canvas);
matchMedia('(prefers-color-scheme: dark)').onchange = draw;

// ---- the chat
let name;
function talk(element) {
  const list = $('talk'), end = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
  list.append(element);
  if (list.children.length > 200) list.firstChild.remove();
  if (end) list.scrollTop = list.scrollHeight;
}
function line(said) {
  const li = make('li', '', said.name === name ? 'me' : '');
  li.title = new Date(said.at_ms).toLocaleTimeString();
  li.append(make('b', said.name), said.text);
  talk(li);
}
const here = n => $('here').textContent = n === 1 ? `you are ${name}, alone` : `you are ${name}, one of ${n}`;
const usable = yes => document.querySelectorAll('#speak *').forEach(element => element.disabled = !yes);
const chat = lasting('ws/chat', {
  open() {},
  message(data) {
    const event = JSON.parse(data);
    if (event.type === 'say') return line(event);
    if (event.type === 'welcome') {
      name = event.name;
      $('talk').textContent = '';
      event.history.forEach(line);
      usable(true);
    } else {
      talk(make('li', `${event.name} ${event.type === 'joined' ? 'came' : 'left'}`, 'event'));
    }
    here(event.here);
  },
  close() {
    $('here').textContent = 'reconnecting';
    usable(false);
  },
});
$('speak').onsubmit = event => {
  event.preventDefault();
  if (chat.ready() && $('line').value.trim()) chat.send($('line').value);
  $('line').value = '';
};

// ---- the configuration, line by line. Each note belongs to lines that start so;
const NOTES = [
  ['worker_processes', 'Threads that serve connections; auto is one per core.'],
  ['daemon', 'Stays in the foreground, so that Ctrl-C ends it.'],
  ['error_log', 'Where it tells what went wrong, and from which level on.'],
  ['worker_connections', 'Connections a worker may hold. A tunnel counts two: one to the client, one to the backend.'],
  ['map ', 'Makes a variable out of another: here the Connection header for the backend out of the client’s Upgrade header.'],
  ['default upgrade', 'The client sent an Upgrade header: the backend gets “Connection: upgrade”.'],
  ['\'\'', 'The client sent none: the backend gets “Connection: close”. Plain requests to /ws/ stay plain.'],
  ['access_log', 'One line a request. A tunnel’s line is written when it ends, with status 101, its bytes and its duration.'],
  ['upstream', 'A group of backends under one name.'],
  ['server 1', 'The backend: the small echo and chat server that started with this demo, on a port of its own.'],
  ['server {', 'One site.'],
  ['listen', 'Where browsers connect.'],
  ['location / ', 'Every path that no longer location claims: this page and this text.'],
  ['location /ws/', 'Paths that start with /ws/: the page’s two WebSockets.'],
  ['proxy_pass', 'Passes the request to the group, path unchanged.'],
  ['proxy_http_version', 'Upgrade exists only in HTTP/1.1. nginx spoke 1.0 to backends until version 1.29.7, so most files have this line.'],
  ['proxy_set_header Upgrade', 'Upgrade ends at every proxy (it is hop by hop), so it has to be sent on by name. Tidegate does it for a valid WebSocket handshake even without this line.'],
  ['proxy_set_header Connection', 'Says that Upgrade is meant for the next hop. The value comes from the map above. Tidegate needs no such line for WebSockets either.'],
];
function explain(span, text) {
  $('note').replaceChildren(make('b', span.textContent.trim()), make('br'), text);
  document.querySelectorAll('#conf [tabindex="0"]').forEach(other => other.tabIndex = -1);
  span.tabIndex = 0;
}
function configuration(text) {
  let inside = false;
  $('conf').replaceChildren(...text.trimEnd().split('\n').map(source => {
    const span = make('span', source || ' '), words = source.trim();
    if (words.startsWith('#')) { span.className = 'remark'; return span; }
    if (words.startsWith('map ') || words.startsWith('location /ws/')) inside = true;
    const found = NOTES.find(([start]) => words.startsWith(start));
    if (words && inside) span.classList.add('magic');
    if (words === '}') inside = false;
    if (found) {
      span.classList.add('told');
      span.tabIndex = -1;
      span.onmouseenter = span.onfocus = () => explain(span, found[1]);
    }
    return span;
  }));
  const told = [...document.querySelectorAll('#conf .told')];
  if (told.length) told[0].tabIndex = 0;
  $('conf').onkeydown = event => {
    const at = told.indexOf(document.activeElement) + { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!told[at]) return;
    event.preventDefault();
    told[at].focus();
  };
}
fetch('nginx.conf').then(answer => answer.text()).then(configuration, () => $('conf').textContent = 'nginx.conf could not be read');

// ---- copy buttons, where the browser allows it
if (navigator.clipboard) document.querySelectorAll('.next dt').forEach(dt => {
  const button = make('button', 'copy'), command = dt.textContent;
  button.setAttribute('aria-label', `copy ${command}`);
  button.onclick = () => navigator.clipboard.writeText(command).then(() => {
    button.textContent = 'copied';
    setTimeout(() => button.textContent = 'copy', 1500);
  });
  dt.append(button);
});
