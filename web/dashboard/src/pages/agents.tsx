// Agents: a draft to edit, and versions that serve.
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { useParam } from '../address';
import { Refusal, api, ask, type Agent, type Schemas } from '../api';
import { agent as agentQuery, agents, difference, holds, queries, session, versions as versionsQuery } from '../queries';
import { Actions, Badge, Confirm, Dialog, Empty, Field, Form, Heading, Loading, Notice, Table, Text, Time, Trouble } from '../ui';
import { Knowledge } from './knowledge';
import { Failed } from './missing';
import { PublishableKeys } from './publishable';
import { Simulator } from './simulator';
import { Skills } from './skills';
import { WidgetLooks } from './widget';

function State({ of }: { of: Agent }) {
  return <Badge tone={of.status === 'published' ? 'good' : 'plain'}>{of.status}</Badge>;
}

export function AgentsPage() {
  const { data: me } = useQuery(session);
  const list = useQuery(agents);
  const navigate = useNavigate();
  const [making, setMaking] = useState(false);
  const [name, setName] = useState('');
  const make = useMutation({
    mutationFn: () => ask(api.POST('/agents', { body: { name } })),
    onSuccess: (made) => {
      void queries.invalidateQueries({ queryKey: ['agents'] });
      void navigate({ to: '/agents/$agentId', params: { agentId: made.id } });
    },
  });
  const may = holds(me, 'agents:write');
  return (
    <>
      <Heading title="Agents">
        {may && (
          <button type="button" className="primary" onClick={() => setMaking(true)}>
            New agent
          </button>
        )}
      </Heading>
      <section className="card" aria-label="Agents">
        <Trouble error={list.error} />
        {list.isPending && <Loading />}
        {list.data?.length === 0 && (
          <Empty title="No agents yet">
            <p>An agent greets and answers your customers, on your site or over the API.</p>
          </Empty>
        )}
        {list.data && list.data.length > 0 && (
          <Table label="Table of agents" columns={['Name', 'Status', 'Draft', 'Changed', 'Created by']}>
            {list.data.map((it) => (
              <tr key={it.id}>
                <td className="name">
                  <Link to="/agents/$agentId" params={{ agentId: it.id }}>
                    {it.name}
                  </Link>
                </td>
                <td>
                  <State of={it} />
                </td>
                <td>version {it.version}</td>
                <td>
                  <Time at={it.updatedAt} />
                </td>
                <td>{it.createdBy.name}</td>
              </tr>
            ))}
          </Table>
        )}
      </section>
      {making && (
        <Dialog title="New agent" onClose={() => setMaking(false)}>
          <Form busy={make.isPending} onSubmit={() => make.mutate()}>
            <Text label="Name" value={name} onChange={setName} required autoFocus maxLength={100} placeholder="Front desk" error={make.error instanceof Refusal ? make.error.field('name') : undefined} />
            <Trouble error={make.error} />
            <Actions action="Make it" busy={make.isPending} onClose={() => setMaking(false)} />
          </Form>
        </Dialog>
      )}
    </>
  );
}

function refresh(id: string): void {
  void queries.invalidateQueries({ queryKey: ['agents'], exact: true });
  void queries.invalidateQueries({ queryKey: ['agents', id] });
}

export function AgentPage() {
  const agentId = useParam('agentId');
  const { data: me } = useQuery(session);
  const found = useQuery(agentQuery(agentId));
  const navigate = useNavigate();
  const [deleting, setDeleting] = useState(false);
  const publish = useMutation({
    mutationFn: () => ask(api.POST('/agents/{id}/publish', { params: { path: { id: agentId } }, body: {} })),
    onSuccess: () => { refresh(agentId); },
  });
  const it = found.data;
  if (found.error) {
    return (
      <Failed what="agent" error={found.error} again={() => void found.refetch()}>
        <Link to="/agents">← Agents</Link>
      </Failed>
    );
  }
  if (!it) return <Loading rows={6} />;
  const may = holds(me, 'agents:write');
  return (
    <>
      <p>
        <Link to="/agents">← Agents</Link>
      </p>
      <Heading title={it.name}>
        <State of={it} />
        {may && (
          <>
            <button type="button" className="primary" disabled={publish.isPending} onClick={() => publish.mutate()}>
              {publish.isPending ? 'Publishing…' : 'Publish the draft'}
            </button>
            <button type="button" className="danger" onClick={() => setDeleting(true)}>
              Delete
            </button>
          </>
        )}
      </Heading>
      <Trouble error={publish.error} />
      {publish.isSuccess && <Notice tone="good">Published: channels serve version {publish.data.version} from now on.</Notice>}
      <div className="grid">
        <Draft key={it.version} of={it} may={may} />
        <div>
          {may && <Simulator key={`${it.id} ${it.version}`} of={it} />}
          <Versions of={it} may={may} />
        </div>
      </div>
      {(holds(me, 'knowledge:read') || holds(me, 'knowledge:write')) && <Knowledge agent={it} may={holds(me, 'knowledge:write')} />}
      {holds(me, 'skills:read') && <Skills agent={it} may={holds(me, 'skills:write')} />}
      {holds(me, 'widgets:read') && <WidgetLooks agent={it} may={holds(me, 'widgets:write')} mayTalk={may} />}
      {holds(me, 'pubkeys:read') && <PublishableKeys agent={it} may={holds(me, 'pubkeys:write')} />}
      {deleting && (
        <Confirm
          title={`Delete ${it.name}`}
          action="Delete"
          type={it.name}
          act={() => ask(api.DELETE('/agents/{id}', { params: { path: { id: agentId } } }))}
          onDone={() => {
            queries.removeQueries({ queryKey: ['agents', agentId] });
            void queries.invalidateQueries({ queryKey: ['agents'], exact: true });
            void navigate({ to: '/agents' });
          }}
          onClose={() => setDeleting(false)}
        >
          <p>It stops serving at once, and its publishable keys open nothing any more.</p>
        </Confirm>
      )}
    </>
  );
}

function Draft({ of, may }: { of: Agent; may: boolean }) {
  const [name, setName] = useState(of.name);
  const [greeting, setGreeting] = useState(of.greeting);
  const [persona, setPersona] = useState(of.persona);
  const [tone, setTone] = useState(of.tone);
  const [goals, setGoals] = useState(of.goals.join('\n'));
  const [neverDo, setNeverDo] = useState(of.neverDo.join('\n'));
  const lines = (text: string) => text.split('\n').map((it) => it.trim()).filter(Boolean);
  const save = useMutation({
    mutationFn: () =>
      ask(
        api.PATCH('/agents/{id}', {
          params: { path: { id: of.id }, header: { 'If-Match': String(of.version) } },
          body: { name, greeting, persona, tone, goals: lines(goals), neverDo: lines(neverDo) },
        }),
      ),
    onSuccess: () => { refresh(of.id); },
  });
  const stale = save.error instanceof Refusal && save.error.problem.code === 'stale_version';
  return (
    <section className="card" aria-label="Draft">
      <h2>Draft, version {of.version}</h2>
      <Form busy={save.isPending} onSubmit={() => save.mutate()}>
        <Text label="Name" value={name} onChange={setName} required maxLength={100} />
        <Text label="Greeting" value={greeting} onChange={setGreeting} maxLength={1000} hint="The first thing it says." />
        <Text label="Tone" value={tone} onChange={setTone} maxLength={200} placeholder="warm and brief" />
        <Field label="Persona">{(props) => <textarea {...props} value={persona} maxLength={8000} onChange={(event) => setPersona(event.target.value)} />}</Field>
        <Field label="Goals" hint="One a line.">{(props) => <textarea {...props} value={goals} onChange={(event) => setGoals(event.target.value)} />}</Field>
        <Field label="Never do" hint="One a line.">{(props) => <textarea {...props} value={neverDo} onChange={(event) => setNeverDo(event.target.value)} />}</Field>
        <Trouble error={save.error} />
        {stale && (
          <button type="button" onClick={() => refresh(of.id)}>
            Load the newer draft (what you typed is lost)
          </button>
        )}
        {may && (
          <div className="actions">
            <button className="primary" disabled={save.isPending}>
              {save.isPending ? 'Saving…' : 'Save the draft'}
            </button>
          </div>
        )}
      </Form>
    </section>
  );
}

function Versions({ of, may }: { of: Agent; may: boolean }) {
  const list = useQuery(versionsQuery(of.id));
  const [compared, setCompared] = useState<Schemas['AgentVersion']>();
  const back = useMutation({
    mutationFn: (versionId: string) => ask(api.POST('/agents/{id}/rollback', { params: { path: { id: of.id } }, body: { versionId } })),
    onSuccess: () => { refresh(of.id); },
  });
  return (
    <section className="card" aria-label="Versions">
      <h2>Published versions</h2>
      <Trouble error={list.error ?? back.error} />
      {list.isPending && <Loading />}
      {list.data?.items.length === 0 && <Empty title="Never published" />}
      {list.data?.items.map((it) => (
        <div key={it.id} className="heading">
          <div>
            Version {it.version} {it.id === of.publishedVersionId && <Badge tone="good">serving</Badge>}
            <div className="quiet small">
              <Time at={it.publishedAt} /> by {it.publishedBy.name} {it.note && `· ${it.note}`}
            </div>
          </div>
          <div className="actions">
            <button type="button" onClick={() => setCompared(it)}>
              Compare
            </button>
            {may && it.id !== of.publishedVersionId && (
              <button type="button" disabled={back.isPending} onClick={() => back.mutate(it.id)}>
                Serve this one
              </button>
            )}
          </div>
        </div>
      ))}
      {compared && <Comparison of={of} version={compared} onClose={() => setCompared(undefined)} />}
    </section>
  );
}

/** What the draft would change of a version, field by field. */
function Comparison({ of, version, onClose }: { of: Agent; version: Schemas['AgentVersion']; onClose: () => void }) {
  const found = useQuery(difference(of.id, version.id, of.version));
  const said = (value: unknown) => (value === undefined || value === null || value === '' ? <span className="quiet">nothing</span> : typeof value === 'string' ? value : <code>{JSON.stringify(value)}</code>);
  return (
    <Dialog title={`Version ${version.version} and the draft`} onClose={onClose} wide>
      <Trouble error={found.error} />
      {found.isPending && <Loading />}
      {found.data?.changes.length === 0 && <Empty title="The draft says the same" />}
      {found.data && found.data.changes.length > 0 && (
        <Table label="What differs" columns={['Field', `Version ${version.version}`, 'Draft']}>
          {found.data.changes.map((it) => (
            <tr key={it.field}>
              <td>
                <code>{it.field}</code>
              </td>
              <td className="long">{said(it.before)}</td>
              <td className="long">{said(it.after)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Dialog>
  );
}
