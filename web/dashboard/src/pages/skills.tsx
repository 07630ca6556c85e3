// What an agent can do besides answering: its skills, and one dialog that makes or changes one.
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Refusal, api, ask, type Agent, type Schemas } from '../api';
import { changes } from '../changes';
import { own, queries, skills, skillTypes } from '../queries';
import { Actions, Badge, Confirm, Dialog, Empty, Failure, Field, Form, Loading, Table, Text, Trouble } from '../ui';

type Skill = Schemas['Skill'];
type Kind = Schemas['SkillType'];

/** What each kind begins with, to be filled in. */
const BEGINNINGS: Record<Kind, object> = {
  http_webhook: { url: 'https://api.example.com/orders', method: 'POST', headers: { 'x-api-key': 'your secret' }, timeout_ms: 5000 },
  knowledge_query: {},
  transfer: { destination: '+12025550123' },
  builtin: { action: 'end_call' },
};

export function Skills({ agent, may }: { agent: Agent; may: boolean }) {
  const list = useQuery(skills(agent.id));
  const [editing, setEditing] = useState<Skill | 'new'>();
  const [removing, setRemoving] = useState<Skill>();
  const renew = () => void queries.invalidateQueries({ queryKey: own('agents', agent.id, 'skills') });
  return (
    <section className="card" aria-label="Skills">
      <div className="heading">
        <h2>Skills</h2>
        {may && (
          <button type="button" onClick={() => setEditing('new')}>
            New skill
          </button>
        )}
      </div>
      <p className="quiet">What it can do besides answering: ask a web service, look something up, hand over, end. A model calls them by itself; without one, a visitor writes the trigger.</p>
      <Failure of={[list]} />
      {list.isPending && <Loading />}
      {list.data?.length === 0 && <Empty title="No skill yet" />}
      {list.data && list.data.length > 0 && (
        <Table label="Table of skills" columns={['Name', 'Kind', 'Trigger', 'Status']} actions={may}>
          {list.data.map((it) => (
            <tr key={it.id}>
              <td className="name">
                {it.name}
                <div className="quiet small">{it.description}</div>
              </td>
              <td>{it.skillType.replace('_', ' ')}</td>
              <td>
                <code>{it.trigger}</code>
              </td>
              <td>
                <Badge tone={it.isEnabled ? 'good' : 'plain'}>{it.isEnabled ? 'on' : 'off'}</Badge> {it.requiresConfirmation && <Badge tone="plain">asks first</Badge>}
              </td>
              {may && (
                <td>
                  <div className="actions">
                    <button type="button" onClick={() => setEditing(it)}>
                      Change
                    </button>
                    <button type="button" onClick={() => setRemoving(it)}>
                      Remove
                    </button>
                  </div>
                </td>
              )}
            </tr>
          ))}
        </Table>
      )}
      {editing && (
        <Edit
          agent={agent}
          of={editing === 'new' ? undefined : editing}
          onClose={() => setEditing(undefined)}
          onDone={() => {
            setEditing(undefined);
            renew();
          }}
        />
      )}
      {removing && (
        <Confirm
          title={`Remove ${removing.name}`}
          action="Remove"
          act={() => ask(api.DELETE('/agents/{agentId}/skills/{id}', { params: { path: { agentId: agent.id, id: removing.id } } }))}
          onDone={renew}
          onClose={() => setRemoving(undefined)}
        >
          <p>The agent can no longer do it, from the next message on.</p>
        </Confirm>
      )}
    </section>
  );
}

function read(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const shown = (value: object) => JSON.stringify(value, null, 2);

function Edit({ agent, of: asOpened, onClose, onDone }: { agent: Agent; of: Skill | undefined; onClose: () => void; onDone: () => void }) {
  const [of] = useState(asOpened);
  const kinds = useQuery(skillTypes);
  const { headerNames, ...known } = of?.executionConfig ?? {};
  const [name, setName] = useState(of?.name ?? '');
  const [description, setDescription] = useState(of?.description ?? '');
  const [kind, setKind] = useState<Kind>(of?.skillType ?? 'http_webhook');
  const [config, setConfig] = useState(shown(of ? known : BEGINNINGS.http_webhook));
  const [parameters, setParameters] = useState(shown(of?.parametersSchema ?? { type: 'object', properties: {} }));
  const [asks, setAsks] = useState(of?.requiresConfirmation ?? false);
  const [on, setOn] = useState(of?.isEnabled ?? true);
  const [executionConfig, parametersSchema] = [read(config), read(parameters)];
  // What the other kinds are called with is given.
  const takesParameters = kind === 'http_webhook';
  const untouched = of !== undefined && config === shown(known);
  const save = useMutation({
    mutationFn: (): Promise<unknown> => {
      const all = { name, description, requiresConfirmation: asks, isEnabled: on, ...(takesParameters ? { parametersSchema: parametersSchema as Schemas['ParametersSchema'] } : {}) };
      // Header values can't be read back, so what was not touched is not sent.
      const how = untouched ? {} : { executionConfig: executionConfig as Schemas['ExecutionConfig'] };
      if (!of) return ask(api.POST('/agents/{agentId}/skills', { params: { path: { agentId: agent.id } }, body: { ...all, ...how, skillType: kind } }));
      const body = { ...changes(of, all), ...how };
      if (Object.keys(body).length === 0) return Promise.resolve();
      return ask(api.PATCH('/agents/{agentId}/skills/{id}', { params: { path: { agentId: agent.id, id: of.id } }, body }));
    },
    onSuccess: onDone,
  });
  const refusal = save.error instanceof Refusal ? save.error : undefined;
  const json = (value: object | undefined) => (value ? undefined : 'is not a JSON object');
  return (
    <Dialog title={of ? `Change ${of.name}` : 'New skill'} onClose={onClose} wide>
      <Form busy={save.isPending} onSubmit={() => save.mutate()}>
        {!of && (
          <Field label="Kind" hint={kinds.data?.find((it) => it.skillType === kind)?.description}>
            {(props) => (
              <select
                {...props}
                value={kind}
                onChange={(event) => {
                  const next = event.target.value as Kind;
                  setKind(next);
                  setConfig(shown(BEGINNINGS[next]));
                }}
              >
                {(Object.keys(BEGINNINGS) as Kind[]).map((it) => (
                  <option key={it} value={it}>
                    {it.replace('_', ' ')}
                  </option>
                ))}
              </select>
            )}
          </Field>
        )}
        <Text label="Name" value={name} onChange={setName} required maxLength={100} placeholder="Order status" error={refusal?.field('name')} />
        <Text label="Description" value={description} onChange={setDescription} required maxLength={1000} placeholder="Says where an order is." hint="A model reads it to know when to use the skill." error={refusal?.field('description')} />
        <Field
          label="Settings"
          hint={headerNames && headerNames.length > 0 ? `JSON. Header values are not shown (${headerNames.join(', ')}); whoever changes the settings writes them again.` : 'JSON.'}
          error={json(executionConfig) ?? refusal?.field('executionConfig')}
        >
          {(props) => <textarea {...props} className="code" rows={7} spellCheck={false} value={config} onChange={(event) => setConfig(event.target.value)} />}
        </Field>
        {takesParameters && (
          <Field label="Parameters" hint="A JSON Schema of its arguments." error={json(parametersSchema) ?? refusal?.field('parametersSchema')}>
            {(props) => <textarea {...props} className="code" rows={5} spellCheck={false} value={parameters} onChange={(event) => setParameters(event.target.value)} />}
          </Field>
        )}
        <div className="check">
          <input type="checkbox" id="asks" checked={asks} onChange={(event) => setAsks(event.target.checked)} />
          <label htmlFor="asks">Ask the visitor first, and run it after a yes</label>
        </div>
        <div className="check">
          <input type="checkbox" id="on" checked={on} onChange={(event) => setOn(event.target.checked)} />
          <label htmlFor="on">On</label>
        </div>
        <Trouble error={save.error} />
        <Actions action={of ? 'Save' : 'Make it'} busy={save.isPending} blocked={!executionConfig || !parametersSchema} onClose={onClose} />
      </Form>
    </Dialog>
  );
}
