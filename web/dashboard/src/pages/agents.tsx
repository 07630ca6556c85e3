// Agents: a draft to edit, and versions that serve.
import { useInfiniteQuery, useMutation, useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { useParam, useQueryFields } from '../address';
import { Refusal, api, ask, type Agent, type Schemas } from '../api';
import { agent as agentQuery, agentsFound, difference, holds, own, queries, session, versions as versionsQuery } from '../queries';
import { Actions, Badge, Choice, Confirm, Dialog, Empty, Failure, Field, Form, Heading, Loading, More, Notice, SearchField, Table, Text, Time, Trouble, Unsaved } from '../ui';
import { Knowledge } from './knowledge';
import { Failed } from './missing';
import { PublishableKeys } from './publishable';
import { Simulator } from './simulator';
import { Skills } from './skills';
import { WidgetLooks } from './widget';

function State({ of }: { of: Agent }) {
  return <Badge tone={of.status === 'published' ? 'good' : 'plain'}>{of.status}</Badge>;
}

const STATUSES = ['draft', 'published'] as const;

export function AgentsPage() {
  const { data: me } = useQuery(session);
  const [{ search, status: named }, set] = useQueryFields('search', 'status');
  const status = STATUSES.find((it) => it === named) ?? '';
  const list = useInfiniteQuery(agentsFound({ ...(search ? { search } : {}), ...(status ? { status } : {}) }));
  const rows = list.data?.pages.flatMap((it) => it.items) ?? [];
  const filtered = search !== '' || status !== '';
  const navigate = useNavigate();
  const [making, setMaking] = useState(false);
  const [name, setName] = useState('');
  const make = useMutation({
    mutationFn: () => ask(api.POST('/agents', { body: { name } })),
    onSuccess: (made) => {
      void queries.invalidateQueries({ queryKey: own('agents') });
      void navigate({ to: '/agents/$agentId', params: { agentId: made.id }, ignoreBlocker: true });
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
        {(filtered || rows.length > 0) && (
          <div className="toolbar" role="search">
            <SearchField value={search} placeholder="Part of a name, or id" onSearch={(text) => { set({ search: text }, true); }} />
            <Choice label="Status" value={status} onChange={(value) => { set({ status: value }); }} options={[['', 'Any'], ['draft', 'Draft'], ['published', 'Published']]} />
          </div>
        )}
        <Failure of={[list]} />
        {list.isPending && <Loading />}
        {list.isSuccess && rows.length === 0 && filtered && <Empty title="No agent fits the search" />}
        {list.isSuccess && rows.length === 0 && !filtered && (
          <Empty title="No agents yet">
            <p>An agent greets and answers your customers, on your site or over the API.</p>
          </Empty>
        )}
        {rows.length > 0 && (
          <Table label="Table of agents" columns={['Name', 'Status', 'Draft', 'Changed', 'Created by']}>
            {rows.map((it) => (
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
        <More of={list} what="Older agents" />
      </section>
      {making && (
        <Dialog title="New agent" onClose={() => setMaking(false)}>
          <Form busy={make.isPending} onSubmit={() => make.mutate()}>
            <Text label="Name" value={name} onChange={setName} required maxLength={100} placeholder="Front desk" error={make.error instanceof Refusal ? make.error.field('name') : undefined} />
            <Trouble error={make.error} />
            <Actions action="Make it" busy={make.isPending} onClose={() => setMaking(false)} />
          </Form>
        </Dialog>
      )}
    </>
  );
}

function refresh(id: string): void {
  void queries.invalidateQueries({ queryKey: own('agents'), exact: true });
  void queries.invalidateQueries({ queryKey: own('agents', 'list') });
  void queries.invalidateQueries({ queryKey: own('agents', id) });
}

export function AgentPage() {
  const agentId = useParam('agentId');
  const { data: me } = useQuery(session);
  const found = useQuery(agentQuery(agentId));
  const navigate = useNavigate();
  const [deleting, setDeleting] = useState(false);
  const [publishing, setPublishing] = useState(false);
  const publish = useMutation({
    mutationFn: () => ask(api.POST('/agents/{id}/publish', { params: { path: { id: agentId } }, body: {} })),
    onSuccess: () => { refresh(agentId); },
  });
  const draft = useDraft(found.data);
  const it = found.data;
  if (!it && found.error) {
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
            <button type="button" className="primary" disabled={publish.isPending || draft.save.isPending} onClick={() => (draft.unsaved ? setPublishing(true) : publish.mutate())}>
              {publish.isPending ? 'Publishing…' : 'Publish the draft'}
            </button>
            <button type="button" className="danger" onClick={() => setDeleting(true)}>
              Delete
            </button>
          </>
        )}
      </Heading>
      <Failure of={[found, publish]} />
      {publish.data && publish.data.id === it.publishedVersionId && <Notice tone="good">Published: channels serve version {publish.data.version} from now on.</Notice>}
      <div className="grid">
        <DraftForm of={it} draft={draft} may={may} />
        <div>
          {may && <Simulator key={it.id} of={it} />}
          <Versions of={it} may={may} />
        </div>
      </div>
      {(holds(me, 'knowledge:read') || holds(me, 'knowledge:write')) && <Knowledge agent={it} may={holds(me, 'knowledge:write')} />}
      {holds(me, 'skills:read') && <Skills agent={it} may={holds(me, 'skills:write')} />}
      {holds(me, 'widgets:read') && <WidgetLooks agent={it} may={holds(me, 'widgets:write')} mayTalk={may} />}
      {holds(me, 'pubkeys:read') && <PublishableKeys agent={it} may={holds(me, 'pubkeys:write')} />}
      {draft.unsaved && <Unsaved />}
      {publishing && (
        <Dialog title="The draft has changes that are not saved" onClose={() => setPublishing(false)} light>
          <p>What is published is what is saved. Version {it.version} is, and what you changed since is not in it.</p>
          <Trouble error={draft.save.error ?? publish.error} />
          <div className="actions">
            <button
              type="button"
              className="primary"
              disabled={draft.save.isPending || publish.isPending}
              onClick={() =>
                draft.save.mutate(undefined, {
                  onSuccess: () => publish.mutate(undefined, { onSuccess: () => setPublishing(false) }),
                })
              }
            >
              {draft.save.isPending || publish.isPending ? 'Working…' : 'Save, then publish'}
            </button>
            <button type="button" disabled={draft.save.isPending || publish.isPending} onClick={() => publish.mutate(undefined, { onSuccess: () => setPublishing(false) })}>
              Publish version {it.version} without them
            </button>
            <button type="button" onClick={() => setPublishing(false)}>
              Cancel
            </button>
          </div>
        </Dialog>
      )}
      {deleting && (
        <Confirm
          title={`Delete ${it.name}`}
          action="Delete"
          type={it.name}
          act={() => ask(api.DELETE('/agents/{id}', { params: { path: { id: agentId } } }))}
          onDone={() => {
            queries.removeQueries({ queryKey: own('agents', agentId) });
            void queries.invalidateQueries({ queryKey: own('agents'), exact: true });
            void navigate({ to: '/agents', ignoreBlocker: true });
          }}
          onClose={() => setDeleting(false)}
        >
          <p>It stops serving at once, and its publishable keys stop working.</p>
        </Confirm>
      )}
    </>
  );
}

/** What the form holds: lists as lines. */
type Fields = { name: string; greeting: string; persona: string; tone: string; goals: string; neverDo: string };

function fieldsOf(it: Agent): Fields {
  const { name, greeting, persona, tone } = it;
  return { name, greeting, persona, tone, goals: it.goals.join('\n'), neverDo: it.neverDo.join('\n') };
}

type Draft = ReturnType<typeof useDraft>;

/** The draft as it is edited here. A newer one from elsewhere takes its place only where nothing was typed. */
function useDraft(newest: Agent | undefined) {
  const [base, setBase] = useState(newest);
  const [fields, setFields] = useState(newest && fieldsOf(newest));
  const load = (it: Agent) => {
    setBase(it);
    setFields(fieldsOf(it));
  };
  const from = base && fieldsOf(base);
  const changed = fields && from ? (Object.keys(from) as (keyof Fields)[]).filter((it) => fields[it] !== from[it]) : [];
  const unsaved = changed.length > 0;
  if (newest && (base?.id !== newest.id || (base.version < newest.version && !unsaved))) load(newest);
  const save = useMutation({
    mutationFn: () => {
      if (!base || !fields) throw new Error('There is no draft yet.');
      const lines = (text: string) => text.split('\n').map((it) => it.trim()).filter(Boolean);
      const all = { ...fields, goals: lines(fields.goals), neverDo: lines(fields.neverDo) };
      const body = Object.fromEntries(changed.map((it) => [it, all[it]]));
      return ask(api.PATCH('/agents/{id}', { params: { path: { id: base.id }, header: { 'If-Match': String(base.version) } }, body }));
    },
    onSuccess: (saved) => {
      queries.setQueryData(agentQuery(saved.id).queryKey, saved);
      load(saved);
    },
  });
  return { base, fields, setFields, unsaved, save, load };
}

function DraftForm({ of, draft, may }: { of: Agent; draft: Draft; may: boolean }) {
  const { base, fields, setFields, unsaved, save, load } = draft;
  if (!base || !fields) return null;
  const set = (name: keyof Fields) => (text: string): void => { setFields({ ...fields, [name]: text }); };
  const refusal = save.error instanceof Refusal ? save.error : undefined;
  return (
    <section className="card" aria-label="Draft">
      <h2>Draft, version {base.version}</h2>
      <Form busy={save.isPending || !unsaved} onSubmit={() => save.mutate()}>
        <Text label="Name" value={fields.name} onChange={set('name')} required maxLength={100} error={refusal?.field('name')} />
        <Text label="Greeting" value={fields.greeting} onChange={set('greeting')} maxLength={1000} hint="The first thing it says." />
        <Text label="Tone" value={fields.tone} onChange={set('tone')} maxLength={200} placeholder="warm and brief" />
        <Field label="Persona">{(props) => <textarea {...props} value={fields.persona} maxLength={8000} onChange={(event) => set('persona')(event.target.value)} />}</Field>
        <Field label="Goals" hint="One per line.">{(props) => <textarea {...props} value={fields.goals} onChange={(event) => set('goals')(event.target.value)} />}</Field>
        <Field label="Never do" hint="One per line.">{(props) => <textarea {...props} value={fields.neverDo} onChange={(event) => set('neverDo')(event.target.value)} />}</Field>
        <Trouble error={save.error} />
        {of.version > base.version && (
          <Notice tone="warn">
            Version {of.version} of the draft was saved elsewhere while you wrote. What you typed is still here, on version {base.version}.
            <div className="actions">
              <button type="button" onClick={() => load(of)}>
                Load version {of.version}, and discard what I typed
              </button>
            </div>
          </Notice>
        )}
        {may && (
          <div className="actions">
            {unsaved && <span className="quiet small">Not saved yet</span>}
            <button className="primary" disabled={save.isPending || !unsaved}>
              {save.isPending ? 'Saving…' : 'Save the draft'}
            </button>
          </div>
        )}
      </Form>
    </section>
  );
}

function Versions({ of, may }: { of: Agent; may: boolean }) {
  const list = useInfiniteQuery(versionsQuery(of.id));
  const rows = list.data?.pages.flatMap((it) => it.items) ?? [];
  const [compared, setCompared] = useState<Schemas['AgentVersion']>();
  const [back, setBack] = useState<Schemas['AgentVersion']>();
  return (
    <section className="card" aria-label="Versions">
      <h2>Published versions</h2>
      <Failure of={[list]} />
      {list.isPending && <Loading />}
      {list.isSuccess && rows.length === 0 && <Empty title="Never published" />}
      {rows.map((it) => (
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
              <button type="button" onClick={() => setBack(it)}>
                Serve this one
              </button>
            )}
          </div>
        </div>
      ))}
      <More of={list} what="Older versions" />
      {back && (
        <Confirm
          title={`Serve version ${back.version}`}
          action={`Serve version ${back.version}`}
          harmless
          act={() => ask(api.POST('/agents/{id}/rollback', { params: { path: { id: of.id } }, body: { versionId: back.id } }))}
          onDone={() => refresh(of.id)}
          onClose={() => setBack(undefined)}
        >
          <p>Visitors talk to version {back.version} from their next message on. The draft stays as it is.</p>
        </Confirm>
      )}
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
      <Failure of={[found]} />
      {found.isPending && <Loading />}
      {found.data?.changes.length === 0 && <Empty title="The draft is the same" />}
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
