// @ts-check
/**
 * The door of HTTP: WHEP (draft-ietf-wish-whep). Like MQTT's in mqtt.js it is a `Door` (types.d.ts), and what comes in is
 * told to the link as the same messages.
 */

/**
 * @typedef {import('./types.js').AgentMessage} AgentMessage
 * @typedef {import('./types.js').Door} Door
 * @typedef {import('./types.js').DoorEvents} DoorEvents
 * @typedef {import('./types.js').Offer} Offer
 * @typedef {import('./types.js').ViewerMessage} ViewerMessage
 * @typedef {import('./types.js').Candidate} Candidate
 */

const HTTP_MS = 4000;

/**
 * WHEP: POST the offer, PATCH candidates, DELETE. Candidates of the agent are all in its answer.
 * @implements {Door}
 */
export class WhepDoor {
  name = 'whep';
  #base;
  #token;
  #events;
  #fetch;
  /** @type {Map<number, {offer: Offer, url: string, etag: string, ended: boolean, waiting: Candidate[]}>} */
  #sessions = new Map();

  /**
   * @param {{base: string, token?: string, fetch?: typeof fetch}} options `base`: the agent's URL with its final slash
   * @param {DoorEvents} events
   */
  constructor({ base, token = '', fetch: fetcher = globalThis.fetch.bind(globalThis) }, events) {
    this.#base = base;
    this.#token = token;
    this.#fetch = fetcher;
    this.#events = events;
  }

  open() {
    this.#events.event({ type: 'door', door: this.name, ready: true });
  }

  close() {
    this.#sessions.clear();
  }

  wake() {}

  /** @param {number} peer @param {Offer} offer */
  offer(peer, offer) {
    // `-` stands for no camera, where only data are wanted.
    const [first = '-', ...also] = Object.values(offer.cameras);
    const url = new URL(`${encodeURIComponent(first)}/whep`, this.#base);
    if (also.length) url.searchParams.set('also', also.join(','));
    const session = { offer, url: '', etag: '', ended: false, /** @type {Candidate[]} */ waiting: [] };
    this.#sessions.set(peer, session);
    void this.#post(peer, session, url);
  }

  /** @param {number} peer @param {{offer: Offer, url: string, etag: string, ended: boolean, waiting: Candidate[]}} session @param {URL} url */
  async #post(peer, session, url) {
    const { offer } = session;
    let response, text;
    try {
      response = await this.#request(url.href, { method: 'POST', body: offer.sdp, headers: { 'Content-Type': 'application/sdp' } });
      text = await response.text();
    } catch {
      if (this.#sessions.delete(peer)) this.#events.event({ type: 'unreachable', peer });
      return;
    }
    if (response.status !== 201) {
      this.#sessions.delete(peer);
      const { code, message, retry_s } = refusal(response, text);
      // A proxy in front of an agent that is away.
      if (code === 502 || code === 504) return this.#events.event({ type: 'unreachable', peer });
      this.#tell(peer, { v: 1, t: 'error', sid: offer.sid, n: 1, code, message, ...(retry_s ? { retry_s } : {}) });
      if (code === 401 || code === 403) this.#events.unauthorized(message);
      return;
    }
    session.url = new URL(response.headers.get('Location') ?? '', url).href;
    session.etag = response.headers.get('ETag') ?? '';
    if (session.ended) return this.#delete(session.url);
    this.#tell(peer, { v: 1, t: 'answer', sid: offer.sid, n: 1, sdp: text, cameras: offer.cameras });
    if (session.waiting.length) this.#patch(session, session.waiting.splice(0), false);
  }

  /** @param {number} peer @param {ViewerMessage} message */
  send(peer, message) {
    const session = this.#sessions.get(peer);
    if (!session) return;
    if (message.t === 'ice') {
      if (session.url) this.#patch(session, message.candidates ?? [], message.end ?? false);
      else session.waiting.push(...(message.candidates ?? []));
    } else if (message.t === 'bye') {
      this.#sessions.delete(peer);
      session.ended = true;
      if (session.url) this.#delete(session.url);
    }
  }

  /** @param {number} peer */
  forget(peer) {
    this.#sessions.delete(peer);
  }

  /** @param {{offer: Offer, url: string, etag: string}} session @param {Candidate[]} candidates @param {boolean} end */
  #patch(session, candidates, end) {
    /** @type {Record<string, string>} */
    const headers = { 'Content-Type': 'application/trickle-ice-sdpfrag' };
    if (session.etag) headers['If-Match'] = session.etag;
    const body = sdpFragment(session.offer.sdp, candidates, end);
    this.#request(session.url, { method: 'PATCH', body, headers }).catch(() => {});
  }

  /** @param {string} url */
  #delete(url) {
    this.#request(url, { method: 'DELETE', keepalive: true }).catch(() => {});
  }

  /** @param {string} url @param {RequestInit & {headers?: Record<string, string>}} init */
  #request(url, init) {
    const headers = { ...init.headers, ...(this.#token ? { Authorization: `Bearer ${this.#token}` } : {}) };
    return this.#fetch(url, { ...init, headers, signal: AbortSignal.timeout(HTTP_MS), cache: 'no-store' });
  }

  /** @param {number} peer @param {AgentMessage} message */
  #tell(peer, message) {
    this.#events.event({ type: 'message', message, peer });
  }
}

/**
 * A refusal as the agent worded it: `{code, message}` in JSON, or plain text.
 * @param {Response} response @param {string} text
 * @returns {{code: number, message: string, retry_s?: number}}
 */
function refusal(response, text) {
  let message = '';
  try {
    const body = JSON.parse(text);
    message = String(body.message ?? body.detail ?? body.error ?? '');
  } catch {
    if (text.length < 300 && !text.trimStart().startsWith('<')) message = text.trim();
  }
  const retry = Number(response.headers.get('Retry-After'));
  return { code: response.status, message: message || `The agent answered ${response.status}`, ...(retry > 0 ? { retry_s: retry } : {}) };
}

/**
 * RFC 8840: candidates with the credentials of the offer they belong to.
 * @param {string} sdp @param {Candidate[]} candidates @param {boolean} end
 */
export function sdpFragment(sdp, candidates, end) {
  /** @param {string} name */
  const line = (name) => new RegExp(`^a=${name}:.*$`, 'm').exec(sdp)?.[0].trim() ?? '';
  const media = /^m=.*$/m.exec(sdp)?.[0].trim() ?? 'm=video 9 UDP/TLS/RTP/SAVPF 0';
  // Everything is bundled, so all candidates belong to the first m-line.
  const lines = [line('ice-ufrag'), line('ice-pwd'), media, line('mid'), ...candidates.map((each) => `a=${each.candidate}`)];
  if (end) lines.push('a=end-of-candidates');
  return lines.filter(Boolean).join('\r\n') + '\r\n';
}
