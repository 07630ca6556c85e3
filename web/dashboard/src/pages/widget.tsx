// How an agent's widget looks and speaks, beside a preview that is the widget itself.
import { useMutation, useQuery } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import { Widget, type Bootstrap, type Channel, type Said } from '../../../widget/src/widget';
import { api, ask, told, type Agent, type Schemas } from '../api';
import { queries, widget as widgetQuery } from '../queries';
import { Failure, Form, Loading, Text, Trouble, Unsaved } from '../ui';

export function WidgetLooks({ agent, may, mayTalk }: { agent: Agent; may: boolean; mayTalk: boolean }) {
  const looks = useQuery(widgetQuery(agent.id));
  if (!looks.data) return looks.error ? <Failure of={[looks]} /> : <Loading rows={2} />;
  return <WidgetForm key={agent.id} agent={agent} of={looks.data} may={may} mayTalk={mayTalk} />;
}

function WidgetForm({ agent, of, may, mayTalk }: { agent: Agent; of: Schemas['Widget']; may: boolean; mayTalk: boolean }) {
  const word = (value: unknown) => (typeof value === 'string' ? value : '');
  // Only what is changed here differs from what is saved, also where that was changed elsewhere meanwhile.
  const [typed, setTyped] = useState<{ color?: string; title?: string; open?: boolean }>({});
  const saved = { color: word(of.theme['primaryColor']), title: word(of.copy['title']), open: of.behavior['openOnLoad'] === true };
  const { color, title, open } = { ...saved, ...typed };
  // What the API set besides stays; what is emptied here goes.
  const looksOf = (it: typeof saved) => ({
    theme: replaced(of.theme, 'primaryColor', it.color),
    copy: replaced(of.copy, 'title', it.title),
    behavior: { ...of.behavior, openOnLoad: it.open },
  });
  const unsaved = color !== saved.color || title !== saved.title || open !== saved.open;
  const save = useMutation({
    mutationFn: (sent: typeof typed) => ask(api.PUT('/agents/{agentId}/widget', { params: { path: { agentId: agent.id } }, body: looksOf({ ...saved, ...sent }) })),
    onSuccess: (now, sent) => {
      queries.setQueryData(widgetQuery(agent.id).queryKey, now);
      setTyped((later) => (later === sent ? {} : later));
    },
  });
  return (
    <section className="card" aria-label="Widget">
      <h2>Widget</h2>
      {may && unsaved && <Unsaved />}
      <div className="grid">
        <Form busy={save.isPending} onSubmit={() => save.mutate(typed)}>
          <Text label="Title" value={title} onChange={(text) => { setTyped({ ...typed, title: text }); }} maxLength={100} hint="Empty: the agent’s name." />
          <Text label="Colour" value={color} onChange={(text) => { setTyped({ ...typed, color: text }); }} maxLength={20} placeholder="#0b57d0" hint="A hex code or a CSS colour name; white text stands on it." />
          <div className="check">
            <input type="checkbox" id="open-on-load" checked={open} onChange={(event) => { setTyped({ ...typed, open: event.target.checked }); }} />
            <label htmlFor="open-on-load">Open by itself when a page loads</label>
          </div>
          <Trouble error={save.error} />
          {may && (
            <div className="actions">
              {unsaved ? <span className="quiet small">Not saved yet</span> : save.isSuccess && <span className="quiet small">Saved</span>}
              <button className="primary" disabled={save.isPending}>
                {save.isPending ? 'Saving…' : 'Save the widget'}
              </button>
            </div>
          )}
        </Form>
        <Preview key={`${agent.id} ${agent.version}`} agent={agent} looks={looksOf({ color, title, open })} mayTalk={mayTalk} />
      </div>
    </section>
  );
}

function replaced<T extends object>(settings: T, name: string, text: string): T {
  const rest = Object.entries(settings).filter(([known]) => known !== name);
  return Object.fromEntries(text ? [...rest, [name, text]] : rest) as T;
}

customElements.define('flowyte-widget', Widget);

/** Talks to the draft as it is saved, from the beginning for each. Nothing of it is kept; a model's answers are charged. */
class Draft implements Channel {
  private readonly said: Said[] = [];

  constructor(
    private readonly agentId: string,
    readonly settings: () => Promise<Bootstrap>,
    private readonly trouble: (error: unknown) => void,
  ) {}

  report(error: unknown): Promise<boolean> {
    this.trouble(error);
    return Promise.resolve(false);
  }

  history(): Promise<Said[]> {
    return Promise.resolve(this.said);
  }

  async *send(text: string): AsyncGenerator<Omit<Said, 'role'>> {
    // The panel greets, so the answers need not.
    const { greeting } = (await this.settings()).agentMeta;
    const greeted = greeting ? [{ role: 'assistant' as const, text: greeting }] : [];
    const transcript = [...greeted, ...this.said, { role: 'user' as const, text }];
    const answer = api.POST('/agents/{agentId}/simulate', { params: { path: { agentId: this.agentId } }, body: { mode: 'text', draftMode: true, transcript }, parseAs: 'stream' });
    for await (const { name, data } of told(answer)) {
      if (name === 'agent_message') {
        const reply = data as Omit<Said, 'role'>;
        this.said.push({ role: 'user', text }, { role: 'assistant', text: reply.text });
        yield reply;
      }
    }
  }
}

function Preview({ agent, looks, mayTalk }: { agent: Agent; looks: Pick<Schemas['Widget'], 'theme' | 'copy' | 'behavior'>; mayTalk: boolean }) {
  const place = useRef<HTMLDivElement>(null);
  const [trouble, setTrouble] = useState<unknown>();
  const settings: Bootstrap = { agentMeta: { name: agent.name, greeting: agent.greeting }, ...looks };
  const latest = useRef(settings);
  useEffect(() => {
    latest.current = settings;
  });
  const shown = useRef<Widget>(undefined);
  useEffect(() => {
    const widget = new Widget(new Draft(agent.id, () => Promise.resolve(latest.current), setTrouble));
    widget.setAttribute('inline', '');
    place.current?.append(widget);
    widget.show(true);
    shown.current = widget;
    return () => {
      widget.remove();
    };
  }, [agent.id]);
  const wanted = JSON.stringify(settings);
  useEffect(() => {
    shown.current?.dress(latest.current);
  }, [wanted]);
  return (
    <div>
      <h3>Preview</h3>
      <div ref={place} />
      <p className="quiet small">{mayTalk ? 'What you write goes to the saved draft and is not kept. Where a model answers, each answer is charged like a message.' : 'Your role may look at it; talking to a draft takes agents:write.'}</p>
      <Trouble error={trouble} />
    </div>
  );
}
