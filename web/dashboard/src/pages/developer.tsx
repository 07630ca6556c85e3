// Secret keys: the table, minting, and the one time that a secret is shown.
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useQueryFields } from '../address';
import { Refusal, api, ask, type ApiKey } from '../api';
import { count, isNear, midnight } from '../format';
import { holds, key as keyQuery, keys, members, own, queries, scopes as scopesQuery, session, type KeyFilter } from '../queries';
import { Actions, Badge, Choice, Copy, Dialog, Empty, Failure, Field, Form, Heading, Loading, Notice, SearchField, ShownOnce, Status, Table, Text, Time, Trouble } from '../ui';

type Filter = Record<'search' | 'status' | 'env' | 'createdBy' | 'scope' | 'unusedSince' | 'expiringBefore' | 'sort' | 'cursor', string>;

/** The filter as the API takes it. */
function asked({ status, env, sort, unusedSince, expiringBefore, ...texts }: Filter): KeyFilter {
  const all = { ...texts, status, env, sort, unusedSince: midnight(unusedSince), expiringBefore: midnight(expiringBefore) };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ''));
}

export function DeveloperPage() {
  const { data: me } = useQuery(session);
  const [filter, setFilter] = useQueryFields('search', 'status', 'env', 'createdBy', 'scope', 'unusedSince', 'expiringBefore', 'sort', 'cursor');
  const list = useQuery(keys(asked(filter)));
  const [minting, setMinting] = useState(false);
  const [minted, setMinted] = useState<ApiKey>();
  const mayMint = holds(me, 'keys:write');
  const all = Object.values(filter).every((value) => value === '');
  const none = list.data?.items.length === 0;
  return (
    <>
      <Heading title="Developer">
        {mayMint && (
          <button type="button" className="primary" onClick={() => setMinting(true)}>
            Mint a key
          </button>
        )}
      </Heading>
      <section className="card" aria-label="Secret keys">
        <h2>Secret keys</h2>
        <p className="quiet">For backends and agents. A key opens what its scopes say, in this organization only.</p>
        {!(all && none) && <KeyFilters filter={filter} onChange={(next, replace) => { setFilter({ ...next, cursor: '' }, replace); }} />}
        <Failure of={[list]} />
        {list.isPending && <Loading />}
        {none && all && (
          <Empty title="No keys yet">
            <p>Mint one, and make the first call within a minute.</p>
            {mayMint ? (
              <button type="button" className="primary" onClick={() => setMinting(true)}>
                Mint the first key
              </button>
            ) : (
              <p>Your role can’t mint keys; an owner, admin or developer can.</p>
            )}
          </Empty>
        )}
        {none && !all && <Empty title="No key fits the search" />}
        {list.data && !none && <Keys of={list.data.items} />}
        {(filter.cursor !== '' || list.data?.next) && (
          <div className="actions">
            {filter.cursor !== '' && (
              <button type="button" onClick={() => { setFilter({ cursor: '' }); }}>
                First page
              </button>
            )}
            {list.data?.next && (
              <button type="button" onClick={() => { setFilter({ cursor: list.data.next ?? '' }); }}>
                Next page
              </button>
            )}
          </div>
        )}
      </section>
      {minting && (
        <MintDialog
          onClose={() => setMinting(false)}
          onMinted={(made) => {
            setMinting(false);
            setMinted(made);
            void queries.invalidateQueries({ queryKey: own('keys', 'list') });
          }}
        />
      )}
      {minted?.secret && <SecretDialog key={minted.secret} made={minted} onClose={() => setMinted(undefined)} />}
    </>
  );
}

function Keys({ of }: { of: ApiKey[] }) {
  return (
    <Table label="Table of keys" columns={['Name', 'Key', 'Status', 'Scopes', 'Last used', 'Expires', 'Created by']}>
      {of.map((it) => (
        <tr key={it.id}>
          <td className="name">
            <Link to="/developer/$keyId" params={{ keyId: it.id }}>
              {it.name}
            </Link>
          </td>
          <td>
            <code>
              {it.prefix}…{it.last4}
            </code>
            {it.env === 'test' && (
              <>
                {' '}
                <Badge tone="plain">test</Badge>
              </>
            )}
          </td>
          <td>
            <Status of={it.status} />
          </td>
          <td title={it.scopes.join(', ')}>{it.scopes.length}</td>
          <td>
            <Time at={it.lastUsedAt} />
            {it.lastUsedOperation && (
              <div className="quiet small">
                {it.lastUsedOperation} from {it.lastUsedAddress}
              </div>
            )}
          </td>
          <td>
            <Time at={it.expiresAt} />
            {it.status === 'active' && isNear(it.expiresAt) && (
              <>
                {' '}
                <Badge tone="warn">soon</Badge>
              </>
            )}
          </td>
          <td>{it.createdBy.name}</td>
        </tr>
      ))}
    </Table>
  );
}

function KeyFilters({ filter, onChange }: { filter: Filter; onChange: (next: Partial<Filter>, replace?: boolean) => void }) {
  const { data: me } = useQuery(session);
  const people = useQuery({ ...members(), enabled: holds(me, 'members:read') });
  const table = useQuery(scopesQuery);
  const scopes = (table.data ?? []).filter((it) => it.holders.includes('secret_key')).map((it): [string, string] => [it.scope, it.scope]);
  const more = [filter.createdBy, filter.scope, filter.unusedSince, filter.expiringBefore, filter.sort].some((value) => value !== '');
  return (
    <>
      <div className="toolbar" role="search">
        <SearchField value={filter.search} placeholder="Part of a name, last four, or id" onSearch={(search) => { onChange({ search }, true); }} />
        <Choice label="Status" value={filter.status} onChange={(status) => { onChange({ status }); }} options={[['', 'Any'], ['active', 'Active'], ['expired', 'Expired'], ['revoked', 'Revoked']]} />
        <Choice label="Environment" value={filter.env} onChange={(env) => { onChange({ env }); }} options={[['', 'Any'], ['live', 'Live'], ['test', 'Test']]} />
      </div>
      <details open={more || undefined}>
        <summary>More filters</summary>
        <Failure of={[table, people]} />
        <div className="toolbar">
          <Choice label="Holds the scope" value={filter.scope} onChange={(scope) => { onChange({ scope }); }} options={[['', 'Any'], ...scopes]} />
          {people.data && (
            <Choice label="Created by" value={filter.createdBy} onChange={(createdBy) => { onChange({ createdBy }); }} options={[['', 'Anybody'], ...people.data.map((it): [string, string] => [it.userId, it.name])]} />
          )}
          <Text label="Not used since" type="date" value={filter.unusedSince} onChange={(unusedSince) => { onChange({ unusedSince }, true); }} />
          <Text label="Expires before" type="date" value={filter.expiringBefore} onChange={(expiringBefore) => { onChange({ expiringBefore }, true); }} />
          <Choice label="Order" value={filter.sort} onChange={(sort) => { onChange({ sort }); }} options={[['', 'Newest first'], ['createdAt', 'Oldest first'], ['expiresAt', 'Expiring soonest first']]} />
        </div>
      </details>
    </>
  );
}

const PRESETS: [string, (scope: string) => boolean][] = [
  ['Read everything', (scope) => scope.endsWith(':read')],
  ['Run agents', (scope) => /^(agents|chat|knowledge|skills|widgets|pubkeys):/.test(scope)],
  ['Nothing', () => false],
];

/** Scopes by resource. What the member does not hold is shown with the reason, and can't be chosen. */
export function ScopePicker({ chosen, onChange, error }: { chosen: string[]; onChange: (scopes: string[]) => void; error?: string | undefined }) {
  const { data: me } = useQuery(session);
  const table = useQuery(scopesQuery);
  const rows = (table.data ?? []).filter((it) => it.holders.includes('secret_key'));
  const resources = [...new Set(rows.map((it) => it.scope.split(':')[0] ?? ''))];
  const may = (scope: string) => holds(me, scope) || chosen.includes(scope);
  return (
    <fieldset aria-invalid={Boolean(error)}>
      <legend>Scopes</legend>
      <div className="actions">
        {PRESETS.map(([name, wanted]) => (
          <button key={name} type="button" className="small" onClick={() => onChange(rows.map((it) => it.scope).filter((it) => may(it) && wanted(it)))}>
            {name}
          </button>
        ))}
        <span className="quiet small" role="status">
          {chosen.length} chosen
        </span>
      </div>
      {error && (
        <div className="error small" role="alert">
          {error}
        </div>
      )}
      <Failure of={[table]} />
      {table.isPending && <Loading />}
      <div className="scopes" tabIndex={0} role="group" aria-label="Scopes by resource">
        {resources.map((resource) => (
          <div key={resource}>
            <h3>{resource}</h3>
            {rows
              .filter((it) => it.scope.startsWith(`${resource}:`))
              .map((it) => {
                const operations = it.operations.map((one) => `${one.method} ${one.path}${one.state === 'reserved' ? ' (reserved)' : ''}`);
                return (
                  <div className="check" key={it.scope}>
                    <input
                      type="checkbox"
                      id={`scope-${it.scope}`}
                      checked={chosen.includes(it.scope)}
                      disabled={!may(it.scope)}
                      aria-describedby={`about-${it.scope}`}
                      onChange={(event) => onChange(event.target.checked ? [...chosen, it.scope] : chosen.filter((one) => one !== it.scope))}
                    />
                    <label htmlFor={`scope-${it.scope}`}>
                      <code>{it.scope}</code>
                      <div className="quiet small" id={`about-${it.scope}`}>
                        {it.description} {!may(it.scope) && <em>Your role does not hold it, so you can’t grant it.</em>}
                      </div>
                      <details className="small">
                        <summary>{count(operations.length, 'operation')}</summary>
                        {operations.map((one) => (
                          <div key={one}>
                            <code>{one}</code>
                          </div>
                        ))}
                      </details>
                    </label>
                  </div>
                );
              })}
          </div>
        ))}
      </div>
    </fieldset>
  );
}

const LIVES: [string, number | null][] = [
  ['30 days', 30],
  ['90 days', 90],
  ['1 year', 365],
  ['Never', null],
];

function MintDialog({ onClose, onMinted }: { onClose: () => void; onMinted: (made: ApiKey) => void }) {
  const [name, setName] = useState('');
  const [env, setEnv] = useState<'live' | 'test'>('live');
  const [days, setDays] = useState<number | null>(90);
  const [chosen, setChosen] = useState<string[]>([]);
  const [addresses, setAddresses] = useState('');
  const [rpm, setRpm] = useState('');
  // One key however often the button or the network repeats itself.
  const [once] = useState(() => crypto.randomUUID());
  const mint = useMutation({
    mutationFn: () =>
      ask(
        api.POST('/api-keys', {
          params: { header: { 'Idempotency-Key': once } },
          body: {
            name,
            env,
            scopes: chosen,
            expiresAt: days === null ? null : new Date(Date.now() + days * 86_400_000).toISOString(),
            allowedAddresses: addresses.split(/[\s,]+/).filter(Boolean),
            rateLimitRpm: rpm === '' ? null : Number(rpm),
          },
        }),
      ),
    onSuccess: onMinted,
  });
  const refusal = mint.error instanceof Refusal ? mint.error : undefined;
  return (
    <Dialog title="Mint a secret key" onClose={onClose} wide>
      <Form busy={mint.isPending} onSubmit={() => mint.mutate()}>
        <Text label="Name" value={name} onChange={setName} error={refusal?.field('name')} required maxLength={100} placeholder="Booking backend" hint="Who or what uses it." />
        <div className="grid">
          <Field label="Environment" hint="Test keys reach sandboxes only and debit nothing.">
            {(props) => (
              <select {...props} value={env} onChange={(event) => setEnv(event.target.value as 'live' | 'test')}>
                <option value="live">Live</option>
                <option value="test">Test</option>
              </select>
            )}
          </Field>
          <Field label="Expires" error={refusal?.field('expiresAt')}>
            {(props) => (
              <select {...props} value={days ?? ''} onChange={(event) => setDays(event.target.value === '' ? null : Number(event.target.value))}>
                {LIVES.map(([text, value]) => (
                  <option key={text} value={value ?? ''}>
                    {text}
                  </option>
                ))}
              </select>
            )}
          </Field>
        </div>
        <ScopePicker chosen={chosen} onChange={setChosen} error={refusal?.field('scopes')} />
        <details>
          <summary>Limits</summary>
          <div className="grid">
            <Text label="Allowed addresses" value={addresses} onChange={setAddresses} error={refusal?.field('allowedAddresses')} hint="Addresses or CIDR blocks, separated by spaces. Empty: from anywhere." placeholder="203.0.113.0/24" />
            <Text label="Requests a minute" value={rpm} onChange={setRpm} type="number" error={refusal?.field('rateLimitRpm')} hint="Empty: no limit of its own." />
          </div>
        </details>
        <Trouble error={mint.error} />
        <Actions action={chosen.length === 0 ? 'Choose a scope' : 'Mint'} busy={mint.isPending} blocked={chosen.length === 0} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

/** The one time the secret is seen. Nothing closes it by accident, and nothing keeps it. */
export function SecretDialog({ made, onClose }: { made: ApiKey; onClose: () => void }) {
  const secret = made.secret ?? '';
  // Calls with another secret of the key are not what it waits for.
  const mine = made.secrets[0]?.createdAt;
  const key = useQuery({ ...keyQuery(made.id), refetchInterval: 1000, staleTime: 0 });
  const call = key.data?.secrets.find((it) => it.createdAt === mine)?.lastCall;
  const path = made.scopes.includes('agents:read') ? 'agents' : 'whoami';
  return (
    <ShownOnce title={`Copy the secret of ${made.name}`} what="the secret" onClose={onClose}>
      <Notice tone="warn">This is the only time that it is shown. Whoever has it can do what its scopes say.</Notice>
      <Copy text={secret} label="Secret key" />
      <h3>For an .env file</h3>
      <Copy text={`FLOWYTE_API_KEY=${secret}`} label=".env line" />
      <h3>The first call</h3>
      <Copy text={`curl ${window.location.origin}/api/v1/${path} -H "Authorization: Bearer ${secret}"`} label="curl command" />
      <div role="status" aria-live="polite">
        {call ? (
          <Notice tone={call.outcome === 'allowed' ? 'good' : 'warn'}>
            Received: <code>{call.operationId}</code>, {call.outcome === 'allowed' ? 'allowed.' : <>refused: <a href={`/errors/${call.outcome}`} target="_blank" rel="noreferrer">{call.outcome}</a></>}
          </Notice>
        ) : (
          <Notice tone="plain">Waiting for the first call with this secret…</Notice>
        )}
      </div>
      <Failure of={[key]} />
    </ShownOnce>
  );
}
