// The publishable keys of an agent: from which pages it may be talked to, and the line that brings it there.
import { useInfiniteQuery, useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { useQueryFields } from '../address';
import { Refusal, api, ask, type Agent, type PublishableKey } from '../api';
import { changes, ifMatch } from '../changes';
import { originTrouble } from '../format';
import { own, publishableKeys, queries } from '../queries';
import { Actions, Badge, Choice, Confirm, Copy, Dialog, Empty, Failure, Field, Form, Loading, More, Notice, Revoked, SearchField, ShownOnce, Status, Table, Text, Time, Trouble } from '../ui';

export function PublishableKeys({ agent, may }: { agent: Agent; may: boolean }) {
  const [{ key: search, keys: named }, set] = useQueryFields('key', 'keys');
  const status = (['active', 'revoked'] as const).find((it) => it === named) ?? '';
  const list = useInfiniteQuery(publishableKeys(agent.id, { ...(search ? { search } : {}), ...(status ? { status } : {}) }));
  const rows = list.data?.pages.flatMap((it) => it.items) ?? [];
  const filtered = search !== '' || status !== '';
  const [editing, setEditing] = useState<PublishableKey | 'new'>();
  const [embedding, setEmbedding] = useState<PublishableKey>();
  const [revoking, setRevoking] = useState<PublishableKey>();
  const [revoked, setRevoked] = useState<PublishableKey>();
  const [secret, setSecret] = useState<PublishableKey>();
  const renew = () => void queries.invalidateQueries({ queryKey: own('agents', agent.id, 'publishable-keys') });
  const [turning, setTurning] = useState<PublishableKey>();
  return (
    <section className="card" aria-label="Publishable keys">
      <div className="heading">
        <h2>Publishable keys</h2>
        {may && (
          <button type="button" onClick={() => setEditing('new')}>
            New key
          </button>
        )}
      </div>
      <p className="quiet">For web pages. Public: such a key can only be used to talk to this agent, from the origins that it lists.</p>
      <Revoked effective={revoked?.effective} />
      {(filtered || rows.length > 1) && (
        <div className="toolbar" role="search">
          <SearchField label="Find a publishable key" value={search} placeholder="Part of a name, or id" onSearch={(text) => { set({ key: text }, true); }} />
          <Choice label="Status" value={status} onChange={(value) => { set({ keys: value }); }} options={[['', 'Any'], ['active', 'Active'], ['revoked', 'Revoked']]} />
        </div>
      )}
      <Failure of={[list]} />
      {list.isPending && <Loading />}
      {list.isSuccess && rows.length === 0 && <Empty title={filtered ? 'No publishable key fits the search' : 'No publishable key yet'} />}
      {rows.length > 0 && (
        <Table label="Table of publishable keys" columns={['Name', 'Origins', 'Status', 'Last used']} actions>
          {rows.map((it) => (
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
                        <button type="button" onClick={() => setEditing(it)}>
                          Change
                        </button>
                        <button type="button" onClick={() => setTurning(it)}>
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
      <More of={list} what="Older keys" />
      {editing && (
        <Edit
          agent={agent}
          of={editing === 'new' ? undefined : editing}
          onClose={() => setEditing(undefined)}
          onDone={(done) => {
            setEditing(undefined);
            renew();
            if (done.identitySecret) setSecret(done);
            else if (editing === 'new') setEmbedding(done);
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
        <ShownOnce title="Copy the identity secret" what="the identity secret" onClose={() => setSecret(undefined)}>
          <Notice tone="warn">Shown once. Your backend signs visitors with it: HS256, with sub, aud {agent.id}, and exp at most 10 minutes ahead.</Notice>
          <Copy label="Identity secret" text={secret.identitySecret} />
        </ShownOnce>
      )}
      {turning && (
        <Confirm
          title={`Rotate ${turning.name}`}
          action="Rotate"
          harmless
          act={() => ask(api.POST('/agents/{agentId}/publishable-keys/{id}/rotate', { params: { path: { agentId: agent.id, id: turning.id } }, body: {} }))}
          onDone={(turned) => {
            renew();
            setEmbedding(turned);
          }}
          onClose={() => setTurning(undefined)}
        >
          <p>There is a new key with the same origins, for every page that embeds this one. The old one works for another day; an older one that still works ends now.</p>
        </Confirm>
      )}
      {revoking && (
        <Confirm
          title={`Revoke ${revoking.name}`}
          action="Revoke for good"
          act={() => ask(api.DELETE('/agents/{agentId}/publishable-keys/{id}', { params: { path: { agentId: agent.id, id: revoking.id } } }))}
          onDone={(done) => {
            setRevoked(done);
            renew();
          }}
          onClose={() => setRevoking(undefined)}
        >
          <p>Pages that embed it stop working at once, and conversations that it opened end.</p>
        </Confirm>
      )}
    </section>
  );
}

type EditProps = {
  agent: Agent;
  /** The key to change; none: a new one is minted. */
  of: PublishableKey | undefined;
  onClose: () => void;
  onDone: (done: PublishableKey) => void;
};

function Edit({ agent, of: asOpened, onClose, onDone }: EditProps) {
  const [of] = useState(asOpened);
  const [name, setName] = useState(of?.name ?? '');
  const [env, setEnv] = useState<'live' | 'test'>(of?.env ?? 'live');
  const [origins, setOrigins] = useState(of?.allowedOrigins.join('\n') ?? '');
  const [rpm, setRpm] = useState(of?.rateLimitRpm?.toString() ?? '');
  const [identity, setIdentity] = useState(of?.requireIdentityVerification ?? false);
  const lines = origins.split(/[\s,]+/).filter(Boolean);
  const wrong = lines.map((line) => originTrouble(line, env)).find(Boolean);
  const save = useMutation({
    mutationFn: () => {
      const body = { name, allowedOrigins: lines, rateLimitRpm: rpm === '' ? null : Number(rpm), requireIdentityVerification: identity };
      if (!of) return ask(api.POST('/agents/{agentId}/publishable-keys', { params: { path: { agentId: agent.id } }, body: { ...body, env } }));
      const changed = changes({ name: of.name, allowedOrigins: of.allowedOrigins, rateLimitRpm: of.rateLimitRpm, requireIdentityVerification: of.requireIdentityVerification }, body);
      if (Object.keys(changed).length === 0) return Promise.resolve(of);
      return ask(api.PATCH('/agents/{agentId}/publishable-keys/{id}', { params: { path: { agentId: agent.id, id: of.id }, header: ifMatch(of) }, body: changed }));
    },
    onSuccess: onDone,
  });
  const refusal = save.error instanceof Refusal ? save.error : undefined;
  return (
    <Dialog title={of ? `Change ${of.name}` : 'New publishable key'} onClose={onClose}>
      <Form busy={save.isPending} onSubmit={() => save.mutate()}>
        <Text label="Name" value={name} onChange={setName} required maxLength={100} placeholder="Web site" error={refusal?.field('name')} />
        {!of && (
          <Field label="Environment" hint="Test keys also work on http://localhost.">
            {(props) => (
              <select {...props} value={env} onChange={(event) => setEnv(event.target.value as 'live' | 'test')}>
                <option value="live">Live</option>
                <option value="test">Test</option>
              </select>
            )}
          </Field>
        )}
        <Field label="Origins" hint="One per line, as the browser sends them: scheme, host, port." error={wrong ?? refusal?.field('allowedOrigins')}>
          {(props) => <textarea {...props} value={origins} required onChange={(event) => setOrigins(event.target.value)} placeholder="https://www.example.com" />}
        </Field>
        <Text label="Requests a minute" value={rpm} onChange={setRpm} type="number" hint="Empty: no limit of its own. Origins protect browsers’ users only, so a limit is wise." error={refusal?.field('rateLimitRpm')} />
        <div className="check">
          <input type="checkbox" id="identity" checked={identity} onChange={(event) => setIdentity(event.target.checked)} />
          <label htmlFor="identity">Visitors must be identified by a token that your backend signs</label>
        </div>
        <Trouble error={save.error} />
        <Actions action={of ? 'Save' : 'Mint'} busy={save.isPending} blocked={lines.length === 0 || wrong !== undefined} onClose={onClose} />
      </Form>
    </Dialog>
  );
}
