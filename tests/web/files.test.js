// @ts-check
/** The files as they are served: sizes, policy, pins. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

const WEB = new URL('../../edgeagent/web/', import.meta.url);
const read = (/** @type {string} */ name) => readFileSync(new URL(name, WEB), 'utf8');
const modules = readdirSync(WEB).filter((name) => name.endsWith('.js'));
const html = read('index.html');

/** @param {string} source @returns {string[]} modules imported from beside it */
const imports = (source) => [...source.matchAll(/^(?:import|export) [^;]*?from '\.\/([\w.-]+)';$/gm), ...source.matchAll(/^import '\.\/([\w.-]+)';$/gm)].map((match) => match[1]);

test('MQTT.js is the pinned file, with its licence', () => {
  const row = /^\| (mqtt\.esm\.js) \| mqtt \(npm\)[^|]*\| ([\d.]+) \| MIT[^|]*\| ([0-9a-f]{64}) \|$/m.exec(read('vendor/README.md'));
  assert.ok(row, 'vendor/README.md has the row');
  assert.equal(createHash('sha256').update(readFileSync(new URL('vendor/mqtt.esm.js', WEB))).digest('hex'), row[3]);
  assert.match(read('vendor/mqtt.LICENSE.md'), /MIT License/);
});

/** The modules that are loaded with the page. */
function startup() {
  /** @type {Set<string>} */
  const needed = new Set();
  const walk = (/** @type {string} */ name) => {
    if (needed.has(name)) return;
    needed.add(name);
    imports(read(name)).forEach(walk);
  };
  walk('app.js');
  return [...needed].sort();
}

/** What is loaded only where an agent has devices. */
const ROBOT = ['binding.js', 'control.js', 'desk.js', 'drive-parts.js', 'drive-words.js', 'drive.js', 'fields.js', 'gamepads.js', 'inputs.js', 'pads.js', 'robot-style.js', 'robot.js', 'sensors.js', 'token.js'];

test('the page starts with less than 100 kB of our own script, comments aside; it travels in less than 48 kB, all for cameras in less than 70, for devices in less than 46', () => {
  const code = startup()
    .filter((name) => name !== 'styles.js')
    .map((name) => read(name).replace(/^\s*(\/\*\*[\s\S]*?\*\/|\/\/.*)\s*$/gm, '').replace(/\/\*\* @\w+[^\n]*?\*\/ ?/g, '').replace(/^\s+/gm, ''));
  const size = code.reduce((sum, each) => sum + each.length, 0);
  assert.ok(size > 50_000 && size < 100_000, `${size}`);
  const travels = (/** @type {string[]} */ names) => gzipSync(names.map(read).join('\n')).length;
  assert.ok(travels(startup()) < 48_000, `${travels(startup())}`);
  const cameras = modules.filter((name) => !ROBOT.includes(name));
  assert.ok(travels(cameras) > 20_000 && travels(cameras) < 70_000, `${travels(cameras)}`);
  assert.ok(travels(ROBOT) > 10_000 && travels(ROBOT) < 46_000, `${travels(ROBOT)}`);
  for (const name of ROBOT) assert.ok(!startup().includes(name), name);
});

test('a policy without inline script and style holds', () => {
  assert.doesNotMatch(html, /<script(?![^>]*\bsrc=)/i);
  assert.doesNotMatch(html, /<style|\sstyle=|\son\w+=|javascript:/i);
  for (const name of modules) {
    assert.doesNotMatch(read(name), /\beval\(|new Function\(|document\.write|innerHTML|outerHTML|insertAdjacentHTML|\.setAttribute\('style'/, name);
  }
});

test('nothing is loaded from elsewhere', () => {
  for (const name of ['index.html', 'app.css', 'manifest.webmanifest', ...modules]) {
    for (const [, url] of read(name).matchAll(/(?:src|href|url|import)\W{1,3}(https?:\/\/[^\s'"`)]+)/g)) {
      // The documentation of an element shows an address.
      assert.match(url, /^https?:\/\/(www\.w3\.org|porch\.local)/, `${name}: ${url}`);
    }
  }
});

test('what the connection bar needs is fetched while the agent still answers', () => {
  // Loaded by agent.js soon after the start, all in one.
  for (const name of ['buffer.js', 'fault.js', 'health.js', 'stats.js']) assert.ok(imports(read('survey.js')).includes(name), name);
});

test('every module that the page needs is fetched at once, and every file named is there', () => {
  const preloaded = [...html.matchAll(/rel="modulepreload" href="([^"]+)"/g)].map((match) => match[1]);
  assert.deepEqual([...preloaded].sort(), startup());
  for (const [, file] of html.matchAll(/(?:href|src)="([^"]+)"/g)) {
    if (!file.startsWith('api/')) assert.ok(existsSync(new URL(file, WEB)), file);
  }
  for (const { src } of JSON.parse(read('manifest.webmanifest')).icons) assert.ok(existsSync(new URL(src, WEB)), src);
});

test('every module is type-checked', () => {
  for (const name of modules) assert.ok(read(name).startsWith('// @ts-check\n'), name);
});

test('decisions touch no browser object', () => {
  for (const name of ['link.js', 'backoff.js', 'clock.js', 'store.js', 'words.js', 'units.js', 'layout.js', 'layers.js', 'fault.js', 'stats.js', 'buffer.js', 'codec.js', 'control.js', 'inputs.js', 'fields.js', 'drive-words.js']) {
    const code = read(name).replace(/\/\*\*[\s\S]*?\*\/|\/\/.*$/gm, '');
    assert.doesNotMatch(code, /\b(document|window|navigator|setTimeout|setInterval|performance|Date|fetch)\b|Math\.random\(/, name);
  }
});
