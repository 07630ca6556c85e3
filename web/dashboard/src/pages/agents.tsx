// Agents: a draft to edit, versions that serve, and the publishable keys that open one to web pages.
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useParams } from '@tanstack/react-router';
import { useState } from 'react';
import { Refusal, api, ask, type Agent, type PublishableKey } from '../api';
import { originTrouble } from '../format';
import { agent as agentQuery, agents, holds, publishableKeys, queries, session, versions as versionsQuery } from '../queries';
import { Actions, Badge, Confirm, Copied, Copy, Dialog, Empty, Field, Form, Heading, Loading, Notice, Status, Table, Text, Time, Trouble } from '../ui';
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
  const { agentId } = useParams({ strict: false }) as { agentId: string };
  const { data: me } = useQuery(session);
  const found = useQuery(agentQuery(agentId));
  const navigate = useNavigate();
  const [deleting, setDeleting] = useState(false);
  const publish = useMutation({
    mutationFn: () => ask(api.POST('/agents/{id}/publish', { params: { path: { id: agentId } }, body: {} })),
    onSuccess: () => refresh(agentId),
  });
  const remove = useMutation({
    mutationFn: () => ask(api.DELETE('/agents/{id}', { params: { path: { id: agentId } } })),
    onSuccess: () => {
      queries.removeQueries({ queryKey: ['agents', agentId] });
      void queries.invalidateQueries({ queryKey: ['agents'], exact: true });
      void navigate({ to: '/agents' });
    },
  });
  const it = found.data;
  if (found.error) return <Trouble error={found.error} />;
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
        <Versions of={it} may={may} />
      </div>
      {holds(me, 'widgets:read') && <WidgetLooks agent={it} may={holds(me, 'widgets:write')} mayTalk={may} />}
      {holds(me, 'pubkeys:read') && <PublishableKeys agent={it} may={holds(me, 'pubkeys:write')} />}
      {deleting && (
        <Confirm title={`Delete ${it.name}`} action="Delete" type={it.name} busy={remove.isPending} error={remove.error} onConfirm={() => remove.mutate()} onClose={() => setDeleting(false)}>
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
    onSuccess: () => refresh(of.id),
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
  const back = useMutation({
    mutationFn: (versionId: string) => ask(api.POST('/agents/{id}/rollback', { params: { path: { id: of.id } }, body: { versionId } })),
    onSuccess: () => refresh(of.id),
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
          {may && it.id !== of.publishedVersionId && (
            <button type="button" disabled={back.isPending} onClick={() => back.mutate(it.id)}>
              Serve this one
            </button>
          )}
        </div>
      ))}
    </section>
  );
}

function PublishableKeys({ agent, may }: { agent: Agent; may: boolean }) {
  const list = useQuery(publishableKeys(agent.id));
  const [making, setMaking] = useState(false);
  const [embedding, setEmbedding] = useState<PublishableKey>();
  const [revoking, setRevoking] = useState<PublishableKey>();
  const [secret, setSecret] = useState<PublishableKey>();
  const renew = () => void queries.invalidateQueries({ queryKey: ['agents', agent.id, 'publishable-keys'] });
  const rotate = useMutation({
    mutationFn: (id: string) =>
      ask(api.POST('/agents/{agentId}/publishable-keys/{id}/rotate', { params: { path: { agentId: agent.id, id } }, body: {} })),
    onSuccess: (turned) => {
      renew();
      setEmbedding(turned);
    },
  });
  const revoke = useMutation({
    mutationFn: (id: string) => ask(api.DELETE('/agents/{agentId}/publishable-keys/{id}', { params: { path: { agentId: agent.id, id } } })),
    onSuccess: () => {
      renew();
      setRevoking(undefined);
    },
  });
  return (
    <section className="card" aria-label="Publishable keys">
      <div className="heading">
        <h2>Publishable keys</h2>
        {may && (
          <button type="button" onClick={() => setMaking(true)}>
            New key
          </button>
        )}
      </div>
      <p className="quiet">For web pages. Public, and good for nothing but talking to this agent from the origins it lists.</p>
      <Trouble error={list.error ?? rotate.error} />
      {list.isPending && <Loading />}
      {list.data?.items.length === 0 && <Empty title="No publishable key yet" />}
      {list.data && list.data.items.length > 0 && (
        <Table label="Table of publishable keys" columns={['Name', 'Origins', 'Status', 'Last used']} actions>
          {list.data.items.map((it) => (
            <tr key={it.id}>
              <td className="name">
                {it.name} {it.env === 'test' && <Badge tone="plain">test</Badge>}
                {it.requireIdentityVerification && <div className="quiet small">visitors must be identified</div>}
              </td>
              <td>
                {it.allowedOrigins.map((origin) => (
                  <div key={origin}>
                    <code>{origin}</code>
                  </div>
                ))}
              </td>
              <td>
                <Status of={it.status} />
              </td>
              <td>
                <Time at={it.lastUsedAt} />
              </td>
              <td>
                {it.status === 'active' && (
                  <div className="actions">
                    <button type="button" onClick={() => setEmbedding(it)}>
                      Embed
                    </button>
                    {may && (
                      <>
                        <button type="button" disabled={rotate.isPending} onClick={() => rotate.mutate(it.id)}>
                          Rotate
                        </button>
                        <button type="button" onClick={() => setRevoking(it)}>
                          Revoke
                        </button>
                      </>
                    )}
                  </div>
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
      {making && (
        <MintPublishable
          agent={agent}
          onClose={() => setMaking(false)}
          onMinted={(made) => {
            setMaking(false);
            renew();
            if (made.identitySecret) setSecret(made);
            else setEmbedding(made);
          }}
        />
      )}
      {embedding && (
        <Dialog title={`Embed ${embedding.name}`} onClose={() => setEmbedding(undefined)} wide>
          <p>Paste this line before the end of the page; a chat bubble appears in its corner.</p>
          <Copy label="Snippet" text={`<script src="${window.location.origin}/widget/loader.js" data-flowyte-key="${embedding.keyPublic}" async></script>`} />
          <h3>The key</h3>
          <Copy label="Publishable key" text={embedding.keyPublic} />
        </Dialog>
      )}
      {secret?.identitySecret && (
        <Dialog title="Copy the identity secret" onClose={() => setSecret(undefined)} firm wide>
          <Notice tone="warn">Shown once. Your backend signs visitors with it: HS256, with sub, aud {agent.id}, and exp at most 10 minutes ahead.</Notice>
          <Copy label="Identity secret" text={secret.identitySecret} />
          <Copied onClose={() => setSecret(undefined)} />
        </Dialog>
      )}
      {revoking && (
        <Confirm title={`Revoke ${revoking.name}`} action="Revoke for good" busy={revoke.isPending} error={revoke.error} onConfirm={() => revoke.mutate(revoking.id)} onClose={() => setRevoking(undefined)}>
          <p>Pages that embed it stop working at once, and conversations that it opened end.</p>
        </Confirm>
      )}
    </section>
  );
}

function MintPublishable({ agent, onClose, onMinted }: { agent: Agent; onClose: () => void; onMinted: (made: PublishableKey) => void }) {
  const [name, setName] = useState('');
  const [env, setEnv] = useState<'live' | 'test'>('live');
  const [origins, setOrigins] = useState('');
  const [rpm, setRpm] = useState('');
  const [identity, setIdentity] = useState(false);
  const lines = origins.split(/[\s,]+/).filter(Boolean);
  const wrong = lines.map((line) => originTrouble(line, env)).find(Boolean);
  const mint = useMutation({
    mutationFn: () =>
      ask(
        api.POST('/agents/{agentId}/publishable-keys', {
          params: { path: { agentId: agent.id } },
          body: { name, env, allowedOrigins: lines, rateLimitRpm: rpm === '' ? null : Number(rpm), requireIdentityVerification: identity },
        }),
      ),
    onSuccess: onMinted,
  });
  const refusal = mint.error instanceof Refusal ? mint.error : undefined;
  return (
    <Dialog title="New publishable key" onClose={onClose}>
      <Form busy={mint.isPending} onSubmit={() => mint.mutate()}>
        <Text label="Name" value={name} onChange={setName} required autoFocus maxLength={100} placeholder="Web site" error={refusal?.field('name')} />
        <Field label="Environment" hint="Test keys also work on http://localhost.">
          {(props) => (
            <select {...props} value={env} onChange={(event) => setEnv(event.target.value as 'live' | 'test')}>
              <option value="live">Live</option>
              <option value="test">Test</option>
            </select>
          )}
        </Field>
        <Field label="Origins" hint="One a line, as the browser sends them: scheme, host, port." error={wrong ?? refusal?.field('allowedOrigins')}>
          {(props) => <textarea {...props} value={origins} required onChange={(event) => setOrigins(event.target.value)} placeholder="https://www.example.com" />}
        </Field>
        <Text label="Requests a minute" value={rpm} onChange={setRpm} type="number" hint="Empty: no limit of its own. Origins protect browsers’ users only, so a limit is wise." error={refusal?.field('rateLimitRpm')} />
        <div className="check">
          <input type="checkbox" id="identity" checked={identity} onChange={(event) => setIdentity(event.target.checked)} />
          <label htmlFor="identity">Visitors must be identified by a token that your backend signs</label>
        </div>
        <Trouble error={mint.error} />
        <Actions action="Mint" busy={mint.isPending} blocked={lines.length === 0 || wrong !== undefined} onClose={onClose} />
      </Form>
    </Dialog>
  );
}
