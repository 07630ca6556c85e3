// What a visitor sees: a bubble and a panel in a shadow root. Where answers come from is its channel's affair.

interface Settings {
  [name: string]: unknown;
}
export interface Bootstrap {
  agentMeta: { name: string; greeting: string };
  theme: Settings;
  copy: Settings;
  behavior: Settings;
}
export interface Said {
  role: 'user' | 'assistant';
  text: string;
}
export interface Problem {
  code?: string;
  detail?: string;
  status?: number;
}

/** A refusal by the API. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? 'The chat is not available.');
  }
}

/** Where the widget's settings and answers come from. */
export interface Channel {
  settings(): Promise<Bootstrap>;
  /** What was said before the page was loaded, oldest first. */
  history(): Promise<Said[]>;
  /** The answer so far, longer each time. */
  send(text: string): AsyncIterable<string>;
  /** Says to the site's owner, not to the visitor, what is wrong. */
  report(error: unknown): void;
}

const STYLE = `
:host { all: initial; position: fixed; z-index: 2147483000; right: 20px; bottom: 20px; font: 15px/1.45 system-ui, -apple-system, 'Segoe UI', sans-serif;
  --accent: #0b57d0; --on-accent: #fff; --radius: 14px; --paper: #fff; --ink: #16181d; --quiet: #5b616e; --line: #d8dbe1; --mine: #e8f0fe; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :host { --paper: #1b1d22; --ink: #e8e9ec; --quiet: #a3a9b6; --line: #3a3f49; --mine: #1d3357; --bad: #ffb4ab; } }
/* Within a page of ours, beside what it previews. */
:host([inline]) { position: static; display: block; width: fit-content; margin: 8px 0; } :host([inline]) .panel { height: 440px; box-shadow: none; }
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

const CSS_COLOR = /^(#[0-9a-fA-F]{3,8}|[a-z]{3,20})$/;

export class Widget extends HTMLElement {
  private readonly root = this.attachShadow({ mode: 'closed' });
  private readonly bubble = make('button', 'bubble');
  private readonly panel = make('div', 'panel');
  private readonly heading = make('span');
  private readonly shut = make('button');
  private readonly log = make('div', 'log');
  private readonly state = make('div', 'state');
  private readonly form = make('form');
  private readonly input = make('input');
  private readonly submit = make('button');
  private started = false;
  private busy = false;
  private settings: Bootstrap | undefined;

  constructor(private readonly channel: Channel) {
    super();
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    this.root.adoptedStyleSheets = [sheet];
    this.bubble.innerHTML =
      '<svg width="26" height="26" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" aria-hidden="true"><path d="M4 5h16v11H9l-5 4z"/></svg>';
    this.bubble.setAttribute('aria-expanded', 'false');
    this.bubble.onclick = () => {
      this.toggle();
    };
    this.panel.hidden = true;
    this.panel.setAttribute('role', 'dialog');
    this.shut.textContent = '✕';
    this.shut.onclick = () => {
      this.toggle(false);
    };
    const header = make('header');
    header.append(this.heading, this.shut);
    this.log.setAttribute('role', 'log');
    this.log.tabIndex = 0;
    this.state.setAttribute('role', 'status');
    this.input.maxLength = 4000;
    this.form.append(this.input, this.submit);
    this.form.onsubmit = (event) => {
      event.preventDefault();
      void this.say();
    };
    this.panel.append(header, this.log, this.form);
    this.log.append(this.state);
    this.panel.onkeydown = (event) => {
      if (event.key === 'Escape') this.toggle(false);
    };
    this.root.append(this.panel, this.bubble);
    this.words();
  }

  connectedCallback(): void {
    addEventListener('offline', this.offline);
    addEventListener('online', this.online);
    void this.begin();
  }

  disconnectedCallback(): void {
    removeEventListener('offline', this.offline);
    removeEventListener('online', this.online);
  }

  private readonly offline = (): void => {
    this.tell('You are offline. The chat goes on when the connection is back.', true);
  };
  private readonly online = (): void => {
    this.tell('');
  };

  toggle(open = this.panel.hidden): void {
    this.show(open);
    (open ? this.input : this.bubble).focus();
  }

  /** Opens or closes the panel and leaves the focus where it is. */
  show(open: boolean): void {
    this.panel.hidden = !open;
    this.bubble.setAttribute('aria-expanded', String(open));
    if (open) void this.resume();
  }

  /** Takes on how the agent's owner wants it to look and to speak. */
  dress(settings: Bootstrap): void {
    const { primaryColor, radius } = settings.theme;
    this.settings = settings;
    const color = typeof primaryColor === 'string' && CSS_COLOR.test(primaryColor) ? primaryColor : '';
    this.style.setProperty('--accent', color || null);
    this.style.setProperty('--radius', typeof radius === 'number' ? `${radius}px` : null);
    this.words();
  }

  /** Texts, from what the agent's owner set, else ours. */
  private words(): void {
    const copy = this.settings?.copy ?? {};
    const word = (name: string, otherwise: string) => (typeof copy[name] === 'string' ? copy[name] : otherwise);
    const title = word('title', this.settings?.agentMeta.name ?? 'Chat');
    this.heading.textContent = title;
    this.shut.setAttribute('aria-label', word('close', 'Close the chat'));
    this.panel.setAttribute('aria-label', title);
    this.log.setAttribute('aria-label', word('conversation', 'Conversation'));
    this.bubble.setAttribute('aria-label', word('open', 'Open the chat'));
    this.input.placeholder = word('placeholder', 'Write a message');
    this.input.setAttribute('aria-label', this.input.placeholder);
    this.submit.textContent = word('send', 'Send');
    this.form.setAttribute('aria-label', title);
  }

  private async begin(): Promise<void> {
    try {
      this.dress(await this.channel.settings());
    } catch (error) {
      this.channel.report(error);
      this.tell('The chat is not available on this page right now.', true);
      return;
    }
    if (this.settings?.behavior['openOnLoad'] === true) this.show(true);
    else if (!this.panel.hidden) void this.resume();
  }

  /** Shows what was said before a reload, or the greeting. */
  private async resume(): Promise<void> {
    if (this.started || !this.settings) return;
    this.started = true;
    if (this.settings.agentMeta.greeting) this.put('assistant', this.settings.agentMeta.greeting);
    for (const said of await this.channel.history()) this.put(said.role, said.text);
  }

  private async say(): Promise<void> {
    const text = this.input.value.trim();
    if (!text || this.busy || !this.settings) return;
    this.busy = this.submit.disabled = true;
    this.put('user', text);
    this.input.value = '';
    this.tell('…');
    try {
      let place: HTMLElement | undefined;
      for await (const answer of this.channel.send(text)) {
        place ??= this.put('assistant', '');
        place.textContent = answer;
        this.log.scrollTop = this.log.scrollHeight;
      }
      this.tell('');
    } catch (error) {
      this.input.value = text; // Nothing that was written is lost.
      this.channel.report(error);
      const wait = error instanceof Refused && error.problem.code === 'rate_limited';
      this.tell(wait ? 'Too many messages at once; try again in a moment.' : 'That did not get through. Try again.', true);
    } finally {
      this.busy = this.submit.disabled = false;
      this.input.focus();
    }
  }

  private put(role: Said['role'], text: string): HTMLElement {
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
}

function make<K extends keyof HTMLElementTagNameMap>(tag: K, name = ''): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (name) element.className = name;
  return element;
}

/** Server-sent events of an answer, as far as this API uses them: a name and one line of JSON. */
export async function* events(body: ReadableStream<Uint8Array<ArrayBuffer>> | null): AsyncGenerator<{ name: string; data: unknown }> {
  const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
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
