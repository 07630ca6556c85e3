// What a web site loads: one script, one element, one global. It talks to the public API only, under a publishable key.
import { Refused, Widget, events, type Bootstrap, type Channel, type Problem, type Said } from './widget';

const script = document.currentScript as HTMLScriptElement | null;
const key = script?.dataset['flowyteKey'] ?? '';
const home = script ? new URL(script.src).origin : '';
const memory = `flowyte:${key.slice(-12)}`;
/** The directive of the page's policy that kept a request to the server back. */
let forbidden = '';

addEventListener('securitypolicyviolation', ({ blockedURI, disposition, effectiveDirective }) => {
  if (disposition === 'enforce' && blockedURI.startsWith(home)) forbidden = effectiveDirective;
});

async function call(path: string, token?: string, body?: unknown): Promise<Response> {
  const answer = await fetch(`${home}/api/v1${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    credentials: 'omit',
    headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (answer.ok) return answer;
  const problem = (await answer.json().catch(() => ({}))) as Problem | null;
  throw new Refused({ ...problem, status: answer.status });
}

interface SetUp extends Bootstrap {
  published: boolean;
  identityRequired: boolean;
}

/** With the key in the query and no header of ours, a browser asks without a preflight, and a page that the key lists can read a refusal too. */
async function setUp(): Promise<SetUp> {
  const answer = await call(`/widget/bootstrap?key=${encodeURIComponent(key)}`);
  return ((await answer.json()) as { data: SetUp }).data;
}

const tell = (what: string): void => {
  console.error(`Flowyte widget: ${what}`);
};
const named = (it = '') => `the publishable key …${it.slice(-6)}`;
const HOW: Record<string, string> = {
  credential_revoked: `${named(key)} was revoked. Put another key of the agent into data-flowyte-key.`,
  credential_expired: `${named(key)} was replaced by a newer one. Put that one into data-flowyte-key.`,
  no_published_version: 'the agent was never published. Publish it in the dashboard.',
};

/**
 * Names the one thing that is wrong. Fetch says the same of a policy of the page, of an answer without CORS fields and of a server that
 * is away, so what the browser does otherwise tells them apart.
 */
async function cause(error: unknown): Promise<Problem> {
  if (error instanceof Refused) return error.problem;
  try {
    await setUp();
    return { detail: 'the connection broke. It works again now.' };
  } catch (again) {
    if (again instanceof Refused) return again.problem;
  }
  const there = await fetch(`${home}/widget/loader.js`, { mode: 'no-cors', credentials: 'omit' }).then(() => true, () => false);
  await new Promise((done) => setTimeout(done, 100)); // The browser reports on a policy after it has refused.
  if (forbidden) return { code: 'csp', detail: `this page's Content-Security-Policy keeps the chat from its server. Add ${home} to ${forbidden}.` };
  if (!there) return { detail: `${home} can't be reached from here.` };
  if (origin === 'null')
    return { code: 'origin_not_allowed', detail: 'this is a sandboxed frame without an origin (null), which no key can list. Give the frame allow-same-origin.' };
  return {
    code: 'origin_not_allowed',
    detail: `this page's origin, ${origin}, is not on the list of ${named(key)}, or the server does not know that key. Add the origin exactly so, under Agents in the dashboard (${home}/agents).`,
  };
}

/** A visitor of this page, under its key. */
class Visitor implements Channel {
  private token = '';
  private identity: string | undefined;

  constructor() {
    try {
      this.token = sessionStorage.getItem(memory) ?? '';
    } catch {
      // A page that may not store anything still chats; it only begins anew after a reload.
    }
  }

  identify(token: string): void {
    this.identity = token;
    this.keep('');
  }

  async settings(): Promise<Bootstrap> {
    const found = await setUp();
    if (!found.published) throw new Refused({ code: 'no_published_version' });
    if (found.identityRequired && !this.identity && !this.token) throw new Refused({ code: 'identity_required' });
    return found;
  }

  async history(): Promise<Said[]> {
    if (!this.token) return [];
    try {
      const answer = await call('/chat/widget/messages?limit=100', this.token);
      return ((await answer.json()) as { data: Said[] }).data;
    } catch {
      this.keep('');
      return [];
    }
  }

  async *send(text: string): AsyncGenerator<Omit<Said, 'role'>> {
    let answer = '';
    for await (const { name, data } of events((await this.ask(text, true)).body)) {
      if (name === 'error') throw new Refused(data as Problem);
      if (name === 'done') yield data as Said;
      else yield { text: (answer += (data as Said).text) };
    }
  }

  async report(error: unknown): Promise<boolean> {
    const { code = '', detail, status = 0 } = await cause(error);
    const waits = code === 'identity_required' && !this.identity;
    if (waits) console.warn(`Flowyte widget: ${named(key)} asks who the visitor is. The chat appears when the page calls window.flowyte.identify(token).`);
    else tell(HOW[code] ?? `${detail}${status ? ` ${home}/errors/${code}` : ''}`);
    return code in HOW || /^(csp|origin_|identity_|invalid_cr|organization_s)/.test(code);
  }

  private async ask(text: string, again: boolean): Promise<Response> {
    if (!this.token) {
      const opened = await call('/chat/widget/sessions', key, this.identity ? { identityToken: this.identity } : {});
      this.keep(((await opened.json()) as { data: { visitorToken: string } }).data.visitorToken);
    }
    try {
      return await call('/chat/widget/messages', this.token, { content: text });
    } catch (error) {
      // The session was idle for too long, or the agent ended the conversation: a new one goes on.
      const over = error instanceof Refused && (error.problem.status === 401 || error.problem.code === 'conflict');
      if (!again || !over) throw error;
      this.keep('');
      return this.ask(text, false);
    }
  }

  private keep(token: string): void {
    this.token = token;
    try {
      if (token) sessionStorage.setItem(memory, token);
      else sessionStorage.removeItem(memory);
    } catch {
      // As above.
    }
  }
}

function start(): void {
  if (!script) return tell('load it with a plain <script> tag; a module does not know its own tag.');
  if (!key.includes('_pk_')) return tell('data-flowyte-key must hold a publishable key (flowyte_pk_…).');
  if (customElements.get('flowyte-widget')) {
    const first = document.querySelector<HTMLElement>('flowyte-widget')?.dataset['flowyteKey'];
    if (first !== key) tell(`it is on this page already, under ${named(first)}. The second script tag, with ${named(key)}, is ignored.`);
    return;
  }
  customElements.define('flowyte-widget', Widget);
  const visitor = new Visitor();
  const widget = new Widget(visitor);
  widget.dataset['flowyteKey'] = key;
  (window as unknown as { flowyte: unknown }).flowyte = Object.freeze({
    identify(token: string) {
      visitor.identify(token);
      void widget.begin();
    },
    open: () => widget.toggle(true),
    close: () => widget.toggle(false),
  });
  document.body.append(widget);
}

if (document.body as HTMLElement | null) start();
else addEventListener('DOMContentLoaded', start);
