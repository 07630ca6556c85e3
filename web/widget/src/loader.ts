// What a web site loads: one script, one element, one global. It talks to the public API only, under a publishable key.
import { Refused, Widget, events, type Bootstrap, type Channel, type Problem, type Said } from './widget';

const script = document.currentScript as HTMLScriptElement | null;
const key = script?.dataset['flowyteKey'] ?? '';
const home = script ? new URL(script.src).origin : '';
const memory = `flowyte:${key.slice(-12)}`;

async function call(path: string, token: string, body?: unknown): Promise<Response> {
  const answer = await fetch(`${home}/api/v1${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    credentials: 'omit',
    headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (answer.ok) return answer;
  const problem = (await answer.json().catch(() => ({}))) as Problem | null;
  throw new Refused({ ...problem, status: answer.status });
}

/** Fetch hides an answer without CORS fields, so a refused origin looks like a network that fails. */
function tellOwner(error: unknown): void {
  const code = error instanceof Refused ? error.problem.code : undefined;
  const how =
    self.origin === 'null'
      ? 'Flowyte widget: a sandboxed frame has no origin (null), so no key can list it; give the frame allow-same-origin.'
      : `Flowyte widget: if this page's origin, ${self.origin}, is not on the list of the publishable key, add it exactly so on the agent's page of the dashboard (${home}/agents).`;
  if (code === undefined || code === 'origin_not_allowed') console.error(how, error);
  else console.error(`Flowyte widget: ${code}. ${home}/errors/${code}`);
}

/** A visitor of this page, under its key. */
class Visitor implements Channel {
  readonly report = tellOwner;
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
    const answer = await call('/widget/bootstrap', key);
    return ((await answer.json()) as { data: Bootstrap }).data;
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

  async *send(text: string): AsyncGenerator<string> {
    let answer = '';
    for await (const { name, data } of events((await this.ask(text, true)).body)) {
      if (name === 'error') throw new Refused(data as Problem);
      answer = name === 'done' ? (data as Said).text : answer + (data as Said).text;
      yield answer;
    }
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
  if (!key.includes('_pk_')) {
    console.error('Flowyte widget: data-flowyte-key must hold a publishable key.');
    return;
  }
  if (customElements.get('flowyte-widget')) return;
  customElements.define('flowyte-widget', Widget);
  const visitor = new Visitor();
  const widget = new Widget(visitor);
  (window as unknown as { flowyte: unknown }).flowyte = Object.freeze({
    identify: (token: string) => visitor.identify(token),
    open: () => widget.toggle(true),
    close: () => widget.toggle(false),
  });
  document.body.append(widget);
}

if (document.body as HTMLElement | null) start();
else addEventListener('DOMContentLoaded', start);
