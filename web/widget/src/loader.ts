// The chat widget: one script, one element, one global. It keeps to a shadow root, and talks to the public API only.

interface Settings {
  [name: string]: unknown;
}
interface Bootstrap {
  agentMeta: { name: string; greeting: string };
  theme: Settings;
  copy: Settings;
  behavior: Settings;
}
interface Problem {
  code?: string;
  detail?: string;
  status?: number;
}
interface Said {
  role: 'user' | 'assistant';
  text: string;
}

const STYLE = `
:host { all: initial; position: fixed; z-index: 2147483000; right: 20px; bottom: 20px; font: 15px/1.45 system-ui, -apple-system, 'Segoe UI', sans-serif;
  --accent: #0b57d0; --on-accent: #fff; --radius: 14px; --paper: #fff; --ink: #16181d; --quiet: #5b616e; --line: #d8dbe1; --mine: #e8f0fe; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :host { --paper: #1b1d22; --ink: #e8e9ec; --quiet: #a3a9b6; --line: #3a3f49; --mine: #1d3357; --bad: #ffb4ab; } }
* { box-sizing: border-box; font: inherit; }
button { cursor: pointer; border: 0; color: inherit; background: none; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.bubble { width: 56px; height: 56px; border-radius: 50%; background: var(--accent); color: var(--on-accent); box-shadow: 0 4px 16px rgb(0 0 0 / 25%); display: grid; place-items: center; margin-left: auto; }
.panel { display: flex; flex-direction: column; width: min(370px, calc(100vw - 40px)); height: min(560px, calc(100vh - 110px)); margin-bottom: 12px; background: var(--paper); color: var(--ink); border: 1px solid var(--line); border-radius: var(--radius); box-shadow: 0 12px 40px rgb(0 0 0 / 25%); overflow: hidden; }
[hidden] { display: none !important; }
header { display: flex; justify-content: space-between; align-items: center; padding: 12px 16px; background: var(--accent); color: var(--on-accent); font-weight: 650; }
header button { padding: 4px 8px; } header button:focus-visible { outline-color: var(--on-accent); }
.log { flex: 1; overflow-y: auto; padding: 16px; display: flex; flex-direction: column; gap: 10px; }
.said { max-width: 85%; padding: 8px 12px; border-radius: 12px; background: color-mix(in srgb, var(--line) 45%, transparent); white-space: pre-wrap; overflow-wrap: anywhere; }
.user { align-self: flex-end; background: var(--mine); }
.state { color: var(--quiet); font-size: 13px; } .state.bad { color: var(--bad); }
form { display: flex; gap: 8px; padding: 12px; border-top: 1px solid var(--line); }
input { flex: 1; min-width: 0; padding: 8px 12px; border: 1px solid var(--quiet); border-radius: 10px; background: var(--paper); color: var(--ink); }
form button { padding: 8px 14px; border-radius: 10px; background: var(--accent); color: var(--on-accent); font-weight: 600; } form button:disabled { opacity: .5; }
`;

const script = document.currentScript as HTMLScriptElement | null;
const key = script?.dataset['flowyteKey'] ?? '';
const home = script ? new URL(script.src).origin : '';
const memory = `flowyte:${key.slice(-12)}`;

/** A refusal, said to the site's owner in the console and to the visitor in words that help them. */
class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? 'The chat is not available.');
  }
}

async function call(path: string, token: string, body?: unknown): Promise<Response> {
  const answer = await fetch(`${home}/api/v1${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    credentials: 'omit',
    headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (answer.ok) return answer;
  const problem = ((await answer.json().catch(() => ({}))) as Problem) ?? {};
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

class Widget extends HTMLElement {
  private readonly root = this.attachShadow({ mode: 'closed' });
  private readonly bubble = make('button', 'bubble');
  private readonly panel = make('div', 'panel');
  private readonly log = make('div', 'log');
  private readonly state = make('div', 'state');
  private readonly input = make('input');
  private readonly send = make('button');
  private visitor = '';
  private identity: string | undefined;
  private started = false;
  private busy = false;
  private settings: Bootstrap | undefined;

  connectedCallback(): void {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    this.root.adoptedStyleSheets = [sheet];
    try {
      this.visitor = sessionStorage.getItem(memory) ?? '';
    } catch {
      // A page that may not store anything still chats; it only begins anew after a reload.
    }
    this.bubble.innerHTML =
      '<svg width="26" height="26" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" aria-hidden="true"><path d="M4 5h16v11H9l-5 4z"/></svg>';
    this.bubble.setAttribute('aria-expanded', 'false');
    this.bubble.onclick = () => this.toggle();
    this.panel.hidden = true;
    this.panel.setAttribute('role', 'dialog');
    const close = make('button');
    close.textContent = '✕';
    close.onclick = () => this.toggle(false);
    const header = make('header');
    const title = make('span');
    header.append(title, close);
    this.log.setAttribute('role', 'log');
    this.log.tabIndex = 0;
    this.state.setAttribute('role', 'status');
    this.input.maxLength = 4000;
    const form = make('form');
    form.append(this.input, this.send);
    form.onsubmit = (event) => {
      event.preventDefault();
      void this.say();
    };
    this.panel.append(header, this.log, form);
    this.log.append(this.state);
    this.panel.onkeydown = (event) => {
      if (event.key === 'Escape') this.toggle(false);
    };
    this.root.append(this.panel, this.bubble);
    this.words();
    addEventListener('offline', () => this.tell('You are offline. The chat goes on when the connection is back.', true));
    addEventListener('online', () => this.tell(''));
    void this.begin();
  }

  identify(token: string): void {
    this.identity = token;
    this.forget();
  }

  toggle(open = this.panel.hidden): void {
    this.panel.hidden = !open;
    this.bubble.setAttribute('aria-expanded', String(open));
    if (open) {
      void this.resume();
      this.input.focus();
    } else {
      this.bubble.focus();
    }
  }

  /** Texts, from what the agent's owner set, else ours. */
  private words(): void {
    const copy = this.settings?.copy ?? {};
    const word = (name: string, otherwise: string) => (typeof copy[name] === 'string' ? (copy[name] as string) : otherwise);
    const title = word('title', this.settings?.agentMeta.name ?? 'Chat');
    const [header, , form] = this.panel.children;
    if (header?.firstChild) header.firstChild.textContent = title;
    header?.lastElementChild?.setAttribute('aria-label', word('close', 'Close the chat'));
    this.panel.setAttribute('aria-label', title);
    this.log.setAttribute('aria-label', word('conversation', 'Conversation'));
    this.bubble.setAttribute('aria-label', word('open', 'Open the chat'));
    this.input.placeholder = word('placeholder', 'Write a message');
    this.input.setAttribute('aria-label', this.input.placeholder);
    this.send.textContent = word('send', 'Send');
    form?.setAttribute('aria-label', title);
  }

  private async begin(): Promise<void> {
    try {
      const answer = await call('/widget/bootstrap', key);
      this.settings = ((await answer.json()) as { data: Bootstrap }).data;
    } catch (error) {
      tellOwner(error);
      this.tell('The chat is not available on this page right now.', true);
      return;
    }
    const { theme, behavior } = this.settings;
    if (typeof theme['primaryColor'] === 'string' && CSS_COLOR.test(theme['primaryColor'])) this.style.setProperty('--accent', theme['primaryColor']);
    if (typeof theme['radius'] === 'number') this.style.setProperty('--radius', `${theme['radius']}px`);
    this.words();
    if (behavior['openOnLoad'] === true) this.toggle(true);
  }

  /** Shows what was said before a reload, or the greeting. */
  private async resume(): Promise<void> {
    if (this.started || !this.settings) return;
    this.started = true;
    if (this.settings.agentMeta.greeting) this.show('assistant', this.settings.agentMeta.greeting);
    if (!this.visitor) return;
    try {
      const answer = await call('/chat/widget/messages?limit=100', this.visitor);
      for (const said of ((await answer.json()) as { data: Said[] }).data) this.show(said.role, said.text);
    } catch {
      this.forget();
    }
  }

  private async say(): Promise<void> {
    const text = this.input.value.trim();
    if (!text || this.busy || !this.settings) return;
    this.busy = this.send.disabled = true;
    this.show('user', text);
    this.input.value = '';
    this.tell('…');
    try {
      await this.answer(text, true);
      this.tell('');
    } catch (error) {
      this.input.value = text; // Nothing that was written is lost.
      if (error instanceof Refused) tellOwner(error);
      const wait = error instanceof Refused && error.problem.code === 'rate_limited';
      this.tell(wait ? 'Too many messages at once; try again in a moment.' : 'That did not get through. Try again.', true);
    } finally {
      this.busy = this.send.disabled = false;
      this.input.focus();
    }
  }

  private async answer(text: string, again: boolean): Promise<void> {
    if (!this.visitor) {
      const opened = await call('/chat/widget/sessions', key, this.identity ? { identityToken: this.identity } : {});
      this.visitor = ((await opened.json()) as { data: { visitorToken: string } }).data.visitorToken;
      try {
        sessionStorage.setItem(memory, this.visitor);
      } catch {
        // As above.
      }
    }
    let stream: Response;
    try {
      stream = await call('/chat/widget/messages', this.visitor, { content: text });
    } catch (error) {
      // The session was idle for too long, or is over: a new one goes on.
      if (!again || !(error instanceof Refused) || error.problem.status !== 401) throw error;
      this.forget();
      return this.answer(text, false);
    }
    let place: HTMLElement | undefined;
    for await (const { name, data } of events(stream)) {
      if (name === 'error') throw new Refused(data as Problem);
      place ??= this.show('assistant', '');
      place.textContent = name === 'done' ? (data as Said).text : place.textContent + (data as Said).text;
      this.log.scrollTop = this.log.scrollHeight;
    }
  }

  private show(role: Said['role'], text: string): HTMLElement {
    const said = make('div', `said ${role}`);
    said.textContent = text;
    this.state.before(said);
    this.log.scrollTop = this.log.scrollHeight;
    return said;
  }

  private tell(text: string, bad = false): void {
    this.state.textContent = text;
    this.state.className = bad ? 'state bad' : 'state';
  }

  private forget(): void {
    this.visitor = '';
    try {
      sessionStorage.removeItem(memory);
    } catch {
      // As above.
    }
  }
}

const CSS_COLOR = /^(#[0-9a-fA-F]{3,8}|[a-z]{3,20})$/;

function make<K extends keyof HTMLElementTagNameMap>(tag: K, name = ''): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (name) element.className = name;
  return element;
}

/** Server-sent events of an answer, as far as this API uses them: a name and one line of JSON. */
async function* events(answer: Response): AsyncGenerator<{ name: string; data: unknown }> {
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = (await reader?.read()) ?? { value: undefined, done: true };
    if (done) return;
    rest += value;
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const block = rest.slice(0, end);
      rest = rest.slice(end + 2);
      const field = (name: string) => block.split('\n').find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      const data = field('data');
      if (data !== undefined) yield { name: field('event') ?? 'message', data: JSON.parse(data) };
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
  const widget = document.createElement('flowyte-widget') as Widget;
  (window as unknown as { flowyte: unknown }).flowyte = Object.freeze({
    identify: (token: string) => widget.identify(token),
    open: () => widget.toggle(true),
    close: () => widget.toggle(false),
  });
  document.body.append(widget);
}

if (document.body) start();
else addEventListener('DOMContentLoaded', start);
