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
/** What an answer rests on. */
export interface Source {
  label: string;
  url?: string | null;
}
export interface Said {
  role: 'user' | 'assistant';
  text: string;
  sources?: Source[];
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
  /** The answer so far, longer each time; the last one names its sources. */
  send(text: string): AsyncIterable<Omit<Said, 'role'>>;
  /** Tells the site's owner, not the visitor, what is wrong. Whether the chat can't go on until the owner repairs it. */
  report(error: unknown): Promise<boolean>;
}

const STYLE = `
:host { all: initial; position: fixed; z-index: 2147483000; right: 20px; bottom: 20px; font: 15px/1.45 system-ui, -apple-system, 'Segoe UI', sans-serif;
  --accent: #0b57d0; --on-accent: #fff; --radius: 14px; --paper: #fff; --ink: #16181d; --quiet: #5b616e; --line: #d8dbe1; --mine: #e8f0fe; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :host { --paper: #1b1d22; --ink: #e8e9ec; --quiet: #a3a9b6; --line: #3a3f49; --mine: #1d3357; --bad: #ffb4ab; } }
/* Within a page of ours, beside what it previews. */
:host([inline]) { position: static; display: block; width: fit-content; margin: 8px 0; } :host([inline]) .panel { height: 440px; max-width: 100%; box-shadow: none; }
:host([hidden]) { display: none; }
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
.sources { margin-top: 6px; color: var(--quiet); font-size: 13px; } .sources a { color: inherit; }
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
    this.bubble.append(icon());
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
    this.hidden = !this.settings; // Nobody sees it before it is known to work.
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
    void this.begin();
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
    else if (this.form.hidden) this.hidden = true;
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

  /** A text, from what the agent's owner set, else ours. */
  private word(name: string, otherwise: string): string {
    const own = this.settings?.copy[name];
    return typeof own === 'string' ? own : otherwise;
  }

  private words(): void {
    const word = (name: string, otherwise: string) => this.word(name, otherwise);
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

  /** Appears when the channel is known to work; until then there is nothing to see. */
  async begin(): Promise<void> {
    if (this.settings && !this.hidden && !this.form.hidden) return;
    try {
      this.dress(await this.channel.settings());
    } catch (error) {
      await this.channel.report(error);
      return;
    }
    this.hidden = this.form.hidden = false;
    if (this.settings?.behavior['openOnLoad'] === true) this.show(true);
    else if (!this.panel.hidden) void this.resume();
  }

  /** Shows the greeting, and what was said before a reload. */
  private async resume(): Promise<void> {
    if (this.started || !this.settings) return;
    this.started = true;
    if (this.settings.agentMeta.greeting) this.put('assistant', this.settings.agentMeta.greeting);
    let last: Said | undefined;
    for (const said of await this.channel.history()) {
      // A question that got no answer and was sent again was asked once, for whoever asked it.
      if (said.role === 'assistant' || said.role !== last?.role || said.text !== last.text) this.fill(this.put(said.role), said);
      last = said;
    }
  }

  private async say(): Promise<void> {
    const text = this.input.value.trim();
    if (!text || this.busy || !this.settings) return;
    this.busy = this.submit.disabled = true;
    const question = this.put('user', text);
    let answer: HTMLElement | undefined;
    this.input.value = '';
    this.tell('…');
    try {
      for await (const said of this.channel.send(text)) this.fill((answer ??= this.put('assistant')), said);
      this.tell('');
    } catch (error) {
      // Nothing that was written is lost, and what is sent again stands there once.
      question.remove();
      answer?.remove();
      this.input.value = `${text} ${this.input.value}`.trimEnd();
      const wait = error instanceof Refused && error.problem.code === 'rate_limited';
      this.tell(wait ? 'Too many messages at once; try again in a moment.' : 'That did not get through. Try again.', true);
      if (await this.channel.report(error)) this.end();
    } finally {
      this.busy = this.submit.disabled = false;
      this.input.focus();
    }
  }

  /** What was said stays to be read until the panel is closed. */
  private end(): void {
    this.form.hidden = true;
    this.tell('This chat is closed.', true);
    if (this.panel.hidden) this.hidden = true;
  }

  private put(role: Said['role'], text = ''): HTMLElement {
    const said = make('div', `said ${role}`);
    this.state.before(said);
    this.fill(said, { text });
    return said;
  }

  private fill(place: HTMLElement, { text, sources = [] }: Omit<Said, 'role'>): void {
    place.textContent = text;
    if (sources.length > 0) {
      const named = make('div', 'sources');
      named.append(this.word('sources', 'Source: '), ...sources.flatMap((it, index) => [index ? ', ' : '', name(it)]));
      place.append(named);
    }
    this.log.scrollTop = this.log.scrollHeight;
  }

  private tell(text: string, bad = false): void {
    this.state.textContent = text;
    this.state.className = bad ? 'state bad' : 'state';
  }
}

/** The bubble's picture; element by element, since pages may forbid HTML from strings (Trusted Types). */
function icon(): SVGElement {
  const within = (tag: string, attributes: Record<string, string>) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const svg = within('svg', { width: '26', height: '26', viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', 'stroke-width': '2', 'stroke-linejoin': 'round', 'aria-hidden': 'true' });
  svg.append(within('path', { d: 'M4 5h16v11H9l-5 4z' }));
  return svg;
}

/** A source, as a link where it is a page. */
function name({ label, url }: Source): Node | string {
  if (!url || !/^https?:/.test(url)) return label;
  const link = make('a');
  link.textContent = label;
  link.href = url;
  link.target = '_blank';
  link.rel = 'noopener noreferrer';
  return link;
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
