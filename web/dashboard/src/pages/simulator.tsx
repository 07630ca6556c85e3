// Trying an agent beside its draft: what is said, and what happens in between. Nothing of it is kept; a model's answers are charged.
import { useEffect, useRef, useState } from 'react';
import type { Said } from '../../../widget/src/widget';
import { api, told, type Agent } from '../api';
import { Empty, Field, Form, Text, Trouble } from '../ui';

/** What a simulation tells, in its order. */
type Step = { name: string; data: Record<string, unknown> };

export function Simulator({ of }: { of: Agent }) {
  const [live, setLive] = useState(false);
  const [text, setText] = useState('');
  const [said, setSaid] = useState<Said[]>([]);
  const [steps, setSteps] = useState<Step[]>([]);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const [version, setVersion] = useState(of.version);
  const list = useRef<HTMLOListElement>(null);

  // What happens last is in view.
  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [steps]);
  const anew = () => {
    setSaid([]);
    setSteps([]);
    setError(undefined);
  };
  // A newer draft says other things, so what the one before said goes; what is being typed stays.
  if (version !== of.version && !busy) {
    setVersion(of.version);
    anew();
  }
  const say = async () => {
    const asked = text.trim();
    if (!asked) return;
    setBusy(true);
    setError(undefined);
    const transcript = [...said, { role: 'user' as const, text: asked }];
    try {
      const answer = api.POST('/agents/{agentId}/simulate', { params: { path: { agentId: of.id } }, body: { mode: 'text', draftMode: !live, transcript }, parseAs: 'stream' });
      // What is written while it answers stays.
      let heard = false;
      for await (const { name, data } of told(answer)) {
        if (!heard) setText('');
        heard = true;
        const step = { name, data: data as Record<string, unknown> };
        setSteps((before) => [...before, step]);
        if (name === 'agent_message') setSaid([...transcript, { role: 'assistant', text: String(step.data['text']) }]);
      }
    } catch (caught) {
      setError(caught);
      setText((now) => now || asked);
    } finally {
      setBusy(false);
    }
  };
  return (
    <section className="card" aria-label="Simulator">
      <div className="heading">
        <h2>Simulator</h2>
        {steps.length > 0 && (
          <button type="button" disabled={busy} onClick={anew}>
            Begin anew
          </button>
        )}
      </div>
      <Field label="Talks as">
        {(props) => (
          <select
            {...props}
            value={live ? 'live' : 'draft'}
            disabled={busy}
            onChange={(event) => {
              setLive(event.target.value === 'live');
              anew();
            }}
          >
            <option value="draft">the draft as it is saved</option>
            <option value="live" disabled={of.publishedVersionId === null}>
              the version that channels serve
            </option>
          </select>
        )}
      </Field>
      <ol ref={list} className="steps" aria-label="What happens" aria-live="polite" tabIndex={0}>
        {steps.map((step, index) => (
          <li key={index} className={step.name}>
            <Told step={step} />
          </li>
        ))}
      </ol>
      {steps.length === 0 && <Empty title="Ask it something" />}
      <p className="small quiet">Nothing of it is kept. Where a model answers, each answer is charged like a message.</p>
      <Trouble error={error} />
      <Form busy={busy} onSubmit={() => void say()}>
        <div className="toolbar">
          <Text label="Message" value={text} onChange={setText} required maxLength={4000} placeholder="When do you open?" />
          <button type="submit" className="beside" disabled={busy}>
            {busy ? 'Answering…' : 'Say it'}
          </button>
        </div>
      </Form>
    </section>
  );
}

function Told({ step }: { step: Step }) {
  const { text, ...rest } = step.data;
  const more = Object.keys(rest).length > 0;
  return (
    <>
      <span className="quiet small">{step.name.replaceAll('_', ' ')}</span>
      {typeof text === 'string' && <div>{text}</div>}
      {more && (
        <details className="small">
          <summary>Details</summary>
          <pre tabIndex={0}>{JSON.stringify(rest, null, 2)}</pre>
        </details>
      )}
    </>
  );
}
