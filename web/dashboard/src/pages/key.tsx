// One secret key: what it grants, what it is used for, and its end.
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useParam } from '../address';
import { Refusal, api, ask, type ApiKey, type Schemas } from '../api';
import { changes, ifMatch } from '../changes';
import { count, isNear, lastDays } from '../format';
import { advice as adviceQuery, holds, key as keyQuery, keyTrail, own, queries, scopes as scopesQuery, session, usage as usageQuery } from '../queries';
import { Actions, Badge, Confirm, Dialog, Empty, Failure, Field, Form, Heading, Loading, Notice, Revoked, Status, Table, Text, Time, Trouble } from '../ui';
import { ScopePicker, SecretDialog } from './developer';
import { Failed } from './missing';

const GRACES: [string, number][] = [
  ['End the old secret now', 0],
  ['1 hour', 3_600],
  ['1 day', 86_400],
  ['7 days', 604_800],
];

function changed(id: string): void {
  void queries.invalidateQueries({ queryKey: own('keys', 'list') });
  void queries.invalidateQueries({ queryKey: own('keys', 'one', id) });
}

export function KeyPage() {
  const keyId = useParam('keyId');
  const { data: me } = useQuery(session);
  const found = useQuery({ ...keyQuery(keyId), refetchInterval: 5_000 });
  const [open, setOpen] = useState<'' | 'rotate' | 'revoke' | 'edit'>('');
  const [minted, setMinted] = useState<ApiKey>();
  const [effective, setEffective] = useState<Schemas['Effective']>();
  const it = found.data;
  if (!it && found.error) {
    return (
      <Failed what="key" error={found.error} again={() => void found.refetch()}>
        <Link to="/developer">← Secret keys</Link>
      </Failed>
    );
  }
  if (!it) return <Loading rows={6} />;
  const may = holds(me, 'keys:write') && it.status === 'active';
  const lacking = it.scopes.filter((scope) => !holds(me, scope));
  return (
    <>
      <p>
        <Link to="/developer">← Secret keys</Link>
      </p>
      <Heading title={it.name}>
        {may && (
          <>
            <button type="button" onClick={() => setOpen('edit')}>
              Change
            </button>
            <button type="button" disabled={lacking.length > 0} title={lacking.length > 0 ? `You do not hold ${lacking.join(', ')}` : undefined} onClick={() => setOpen('rotate')}>
              Rotate
            </button>
            <button type="button" className="danger" onClick={() => setOpen('revoke')}>
              Revoke
            </button>
          </>
        )}
      </Heading>
      <Failure of={[found]} />
      <Revoked effective={effective} />
      {it.secrets.length > 1 && <Grace of={it} may={may} />}
      <div className="grid">
        <section className="card" aria-label="About this key">
          <h2>About</h2>
          <dl className="facts">
            <dt>Key</dt>
            <dd>
              <code>
                {it.prefix}…{it.last4}
              </code>
            </dd>
            <dt>Status</dt>
            <dd>
              <Status of={it.status} /> {it.status === 'active' && isNear(it.expiresAt) && <Badge tone="warn">expires soon</Badge>}
            </dd>
            <dt>Environment</dt>
            <dd>{it.env}</dd>
            <dt>Expires</dt>
            <dd>
              <Time at={it.expiresAt} />
            </dd>
            <dt>Last used</dt>
            <dd>
              <Time at={it.lastUsedAt} /> {it.lastUsedOperation && <div className="quiet">{it.lastUsedOperation} from {it.lastUsedAddress}</div>}
            </dd>
            <dt>Created</dt>
            <dd>
              <Time at={it.createdAt} /> by {it.createdBy.name}
            </dd>
            {it.revokedAt && (
              <>
                <dt>Revoked</dt>
                <dd>
                  <Time at={it.revokedAt} />
                </dd>
              </>
            )}
            <dt>Addresses</dt>
            <dd>{it.allowedAddresses.length > 0 ? it.allowedAddresses.join(', ') : <span className="quiet">any</span>}</dd>
            <dt>Requests a minute</dt>
            <dd>{it.rateLimitRpm ?? <span className="quiet">no limit of its own</span>}</dd>
            <dt>Id</dt>
            <dd>
              <code>{it.id}</code>
            </dd>
          </dl>
        </section>
        <Advice of={it} may={may} />
      </div>
      <UsageCard id={it.id} />
      {holds(me, 'audit:read') && <Trail id={it.id} />}
      {open === 'edit' && <EditDialog of={it} onClose={() => setOpen('')} />}
      {open === 'rotate' && (
        <RotateDialog
          of={it}
          onClose={() => setOpen('')}
          onRotated={(made) => {
            setOpen('');
            setMinted(made);
          }}
        />
      )}
      {open === 'revoke' && (
        <RevokeDialog
          of={it}
          onClose={() => setOpen('')}
          onRevoked={(done) => setEffective(done.effective)}
        />
      )}
      {minted?.secret && <SecretDialog key={minted.secret} made={minted} onClose={() => setMinted(undefined)} />}
    </>
  );
}

function Grace({ of, may }: { of: ApiKey; may: boolean }) {
  const old = of.secrets[1];
  const usage = useQuery({ ...usageQuery(of.id), refetchInterval: 5_000 });
  const use = usage.data?.oldSecret;
  const [ending, setEnding] = useState(false);
  if (!old) return null;
  return (
    <Notice tone="warn">
      The old secret …{old.last4} works until <Time at={old.expiresAt} />.{' '}
      {may && (
        <button
          type="button"
          onClick={() => {
            setEnding(true);
          }}
        >
          End it now
        </button>
      )}
      <Failure of={[usage]} />
      {use?.calls === 0 && <p>Nobody has used it since the rotation.</p>}
      {use && use.calls > 0 && (
        <>
          <p>
            Still used: {count(use.calls, 'call')} since the rotation from {count(use.addressCount, 'address', 'addresses')}
            {use.addressCount > use.addresses.length && `; the latest ${use.addresses.length}`}:
          </p>
          <Table label="Who still uses the old secret" columns={['Address', 'Calls', 'Last']}>
            {use.addresses.map((it) => (
              <tr key={it.address}>
                <td>
                  <code>{it.address}</code>
                </td>
                <td>{it.calls}</td>
                <td>
                  <Time at={it.lastUsedAt} />
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
      {ending && (
        <Confirm
          title={`End the old secret of ${of.name}`}
          action="End it now"
          act={() => ask(api.PATCH('/api-keys/{id}', { params: { path: { id: of.id }, header: ifMatch(of) }, body: { graceEndsAt: new Date().toISOString() } }))}
          onClose={() => {
            setEnding(false);
          }}
        >
          <p>Calls with the secret that ends in {old.last4} are refused from then on. This can’t be undone.</p>
          {use === undefined && <p>Whether somebody still uses it is not known yet.</p>}
          {use?.calls === 0 && <p>Nobody has used it since the rotation.</p>}
          {use && use.calls > 0 && (
            <>
              <p>
                {count(use.addressCount, 'address', 'addresses')} used it since the rotation, and will be refused until {use.addressCount === 1 ? 'it has' : 'they have'} the new secret:
              </p>
              <ul>
                {use.addresses.map((it) => (
                  <li key={it.address}>
                    <code>{it.address}</code>, {count(it.calls, 'call')}, last <Time at={it.lastUsedAt} />
                  </li>
                ))}
                {use.addressCount > use.addresses.length && <li>and {use.addressCount - use.addresses.length} more</li>}
              </ul>
            </>
          )}
        </Confirm>
      )}
    </Notice>
  );
}

function Advice({ of, may }: { of: ApiKey; may: boolean }) {
  const advice = useQuery({ ...adviceQuery(of.id), refetchInterval: 5_000 });
  const [narrowing, setNarrowing] = useState<Schemas['ApiKeyScopeAdvice']>();
  const it = advice.data;
  return (
    <section className="card" aria-label="Scopes">
      <h2>Scopes</h2>
      <div className="chips">
        {of.scopes.map((scope) => (
          <Badge key={scope} tone={it?.used.some((used) => used.scope === scope) ? 'good' : 'plain'}>
            {scope}
          </Badge>
        ))}
      </div>
      <Failure of={[advice]} />
      {!it && !advice.error && <Loading rows={2} />}
      {it && (
        <>
          <p className="quiet">
            Grants {count(of.scopes.length, 'scope')}, used {it.used.length} in 30 days ({count(it.observedCalls, 'call')}).
            {it.observedSince && (
              <>
                {' '}
                Calls observed since <Time at={it.observedSince} />.
              </>
            )}
          </p>
          {may && it.unused.length > 0 && it.proposed.length > 0 && (
            <>
              {!it.recommended && <p className="quiet">That is less than a week: what is called less often does not show yet.</p>}
              <button
                type="button"
                onClick={() => {
                  setNarrowing(it);
                }}
              >
                Narrow to the {count(it.proposed.length, 'scope')} it uses{it.recommended ? '' : '…'}
              </button>
            </>
          )}
        </>
      )}
      {narrowing && (
        <Confirm
          title={`Narrow ${of.name}`}
          action={`Take away ${count(narrowing.unused.length, 'scope')}`}
          act={() => ask(api.PATCH('/api-keys/{id}', { params: { path: { id: of.id }, header: ifMatch(of) }, body: { scopes: narrowing.proposed } }))}
          onClose={() => {
            setNarrowing(undefined);
          }}
        >
          {!narrowing.recommended && (
            <Notice tone="warn">
              Calls were observed for less than a week, since <Time at={narrowing.observedSince} />. What this key does once a week or once a month may be refused afterwards.
            </Notice>
          )}
          <p>
            These were not used in the {count(narrowing.observedCalls, 'call')} that were observed, and calls that need them are refused from then on:{' '}
            {narrowing.unused.map((scope) => (
              <span key={scope}>
                <code>{scope}</code>{' '}
              </span>
            ))}
          </p>
          <p>
            What stays:{' '}
            {narrowing.proposed.map((scope) => (
              <span key={scope}>
                <code>{scope}</code>{' '}
              </span>
            ))}
          </p>
          <p>Only a member who holds a scope can give it back.</p>
        </Confirm>
      )}
    </section>
  );
}

function UsageCard({ id }: { id: string }) {
  const usage = useQuery({ ...usageQuery(id), refetchInterval: 5_000 });
  const table = useQuery(scopesQuery);
  const enough = (operationId: string) =>
    (table.data ?? []).filter((it) => it.holders.includes('secret_key') && it.operations.some((one) => one.operationId === operationId)).map((it) => it.scope);
  const it = usage.data;
  const days = it?.days ?? [];
  const sum = (counts: Record<string, number>) => Object.values(counts).reduce((total, one) => total + one, 0);
  // Today and the 30 days before it; a day without a call has no entry and still takes its place.
  const bars = lastDays(31).map((date) => {
    const calls = days.find((day) => day.date === date)?.operations ?? [];
    return {
      date,
      allowed: calls.reduce((total, one) => total + one.allowed, 0),
      denied: calls.reduce((total, one) => total + sum(one.denied), 0),
    };
  });
  const most = Math.max(1, ...bars.map((bar) => bar.allowed + bar.denied));
  const operations = new Map<string, { allowed: number; denied: Record<string, number> }>();
  for (const one of days.flatMap((day) => day.operations)) {
    const known = operations.get(one.operationId) ?? { allowed: 0, denied: {} };
    known.allowed += one.allowed;
    for (const [code, more] of Object.entries(one.denied)) known.denied[code] = (known.denied[code] ?? 0) + more;
    operations.set(one.operationId, known);
  }
  return (
    <section className="card" aria-label="Usage">
      <h2>Usage in 30 days</h2>
      <Failure of={[usage]} />
      {usage.isPending && <Loading />}
      {it?.total === 0 && <Empty title="No call yet" />}
      {it && it.total > 0 && (
        <>
          <svg className="chart" viewBox={`0 0 ${bars.length * 10} 100`} preserveAspectRatio="none" role="img" aria-label={`${count(it.total, 'call')}; the table below has the numbers`}>
            {bars.map((bar, index) => (
              <g key={bar.date}>
                <title>{`${bar.date}: ${bar.allowed} allowed, ${bar.denied} refused`}</title>
                <rect className="allowed" x={index * 10 + 1.5} width={7} y={100 - (bar.allowed / most) * 96} height={(bar.allowed / most) * 96} />
                <rect className="denied" x={index * 10 + 1.5} width={7} y={100 - ((bar.allowed + bar.denied) / most) * 96} height={(bar.denied / most) * 96} />
              </g>
            ))}
          </svg>
          <Table label="Calls by operation" columns={['Operation', 'Allowed', 'Refused']}>
            {[...operations].map(([name, counts]) => (
              <tr key={name}>
                <td>
                  <code>{name}</code>
                </td>
                <td>{counts.allowed}</td>
                <td>
                  {Object.entries(counts.denied).map(([code, times]) => (
                    <div key={code}>
                      {times} × <a href={`/errors/${code}`}>{code}</a>
                      {code === 'insufficient_scope' && enough(name).length > 0 && <span className="quiet small"> {enough(name).join(' or ')} would have been enough</span>}
                    </div>
                  ))}
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </section>
  );
}

function Trail({ id }: { id: string }) {
  const trail = useQuery(keyTrail(id));
  return (
    <section className="card" aria-label="Audit trail">
      <h2>Recent activity</h2>
      <Failure of={[trail]} />
      {trail.isPending && <Loading rows={2} />}
      {trail.data?.items.map((it) => (
        <div key={it.id}>
          <code>{it.action}</code> by {it.actor.name || it.actor.kind} <Time at={it.at} />
        </div>
      ))}
      {trail.data?.next && (
        <p>
          <Link to="/audit" search={{ target: id }}>
            All of it in the audit log
          </Link>
        </p>
      )}
    </section>
  );
}

function EditDialog({ of, onClose }: { of: ApiKey; onClose: () => void }) {
  // As it was when the dialog opened; the page behind it is read anew meanwhile.
  const [before] = useState(of);
  const [name, setName] = useState(before.name);
  const [chosen, setChosen] = useState(before.scopes);
  const [addresses, setAddresses] = useState(before.allowedAddresses.join(' '));
  const [rpm, setRpm] = useState(before.rateLimitRpm?.toString() ?? '');
  const save = useMutation({
    mutationFn: async () => {
      const { scopes, allowedAddresses, rateLimitRpm } = before;
      const body = changes(
        { name: before.name, scopes: scopes.toSorted(), allowedAddresses, rateLimitRpm },
        { name, scopes: chosen.toSorted(), allowedAddresses: addresses.split(/[\s,]+/).filter(Boolean), rateLimitRpm: rpm === '' ? null : Number(rpm) },
      );
      if (Object.keys(body).length === 0) return;
      await ask(api.PATCH('/api-keys/{id}', { params: { path: { id: before.id }, header: ifMatch(before) }, body }));
    },
    onSuccess: () => {
      changed(of.id);
      onClose();
    },
  });
  const refusal = save.error instanceof Refusal ? save.error : undefined;
  return (
    <Dialog title={`Change ${of.name}`} onClose={onClose} wide>
      <Form busy={save.isPending} onSubmit={() => save.mutate()}>
        <Text label="Name" value={name} onChange={setName} required maxLength={100} error={refusal?.field('name')} />
        <ScopePicker chosen={chosen} onChange={setChosen} error={refusal?.field('scopes')} />
        <div className="grid">
          <Text label="Allowed addresses" value={addresses} onChange={setAddresses} error={refusal?.field('allowedAddresses')} hint="Empty: from anywhere." />
          <Text label="Requests a minute" value={rpm} onChange={setRpm} type="number" error={refusal?.field('rateLimitRpm')} hint="Empty: no limit of its own." />
        </div>
        <Trouble error={save.error} />
        <Actions action="Save" busy={save.isPending} blocked={chosen.length === 0} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

function RotateDialog({ of, onClose, onRotated }: { of: ApiKey; onClose: () => void; onRotated: (made: ApiKey) => void }) {
  const [grace, setGrace] = useState(86_400);
  const [once] = useState(() => crypto.randomUUID());
  const rotate = useMutation({
    mutationFn: () =>
      ask(api.POST('/api-keys/{id}/rotate', { params: { path: { id: of.id }, header: { 'Idempotency-Key': once } }, body: { graceSeconds: grace } })),
    onSuccess: (made) => {
      changed(of.id);
      onRotated(made);
    },
  });
  return (
    <Dialog title={`Rotate ${of.name}`} onClose={onClose}>
      <Form busy={rotate.isPending} onSubmit={() => rotate.mutate()}>
        <p>A new secret with the same grants. {of.secrets.length > 1 && 'The older secret whose grace still runs ends now.'}</p>
        <Field label="The old secret lives for">
          {(props) => (
            <select {...props} value={grace} onChange={(event) => setGrace(Number(event.target.value))}>
              {GRACES.map(([text, seconds]) => (
                <option key={seconds} value={seconds}>
                  {text}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Trouble error={rotate.error} />
        <Actions action="Rotate" busy={rotate.isPending} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

function RevokeDialog({ of, onClose, onRevoked }: { of: ApiKey; onClose: () => void; onRevoked: (done: ApiKey) => void }) {
  return (
    <Confirm
      title={`Revoke ${of.name}`}
      action="Revoke for good"
      type={of.name}
      act={() => ask(api.DELETE('/api-keys/{id}', { params: { path: { id: of.id } } }))}
      onDone={(done) => {
        changed(of.id);
        onRevoked(done);
      }}
      onClose={onClose}
    >
      <p>Every secret of this key stops working at once, everywhere. This can’t be undone.</p>
      {of.lastUsedAt && (
        <p>
          It was last used <Time at={of.lastUsedAt} /> from {of.lastUsedAddress}.
        </p>
      )}
    </Confirm>
  );
}
