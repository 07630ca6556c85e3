// Every operation of the contract, with a key's scopes in view: what it may call, and what it lacks for the rest.
import { useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import { operations, verdict, type Operation } from '../contract-document';
import type { ApiKey } from '../api';
import { holds, keys, reference, session } from '../queries';
import { Badge, Empty, Failure, Field, Heading, Loading, SearchField, Table } from '../ui';

const MINE = 'session';

export function ReferencePage() {
  const { data: me } = useQuery(session);
  const [named, setNamed] = useState('');
  const list = useQuery({ ...keys({ status: 'active', ...(named ? { search: named } : {}) }), enabled: holds(me, 'keys:read') });
  const document = useQuery(reference);
  const [key, setKey] = useState<ApiKey>();
  const [search, setSearch] = useState('');
  // The one that was chosen stays while others are looked for.
  const found = list.data?.items ?? [];
  const choice = key && !found.some((it) => it.id === key.id) ? [key, ...found] : found;
  const all = useMemo(() => (document.data ? operations(document.data) : []), [document.data]);
  const scopes = key?.scopes ?? me?.scopes ?? [];
  const wanted = search.trim().toLowerCase();
  const shown = all.filter((it) => [it.id, it.path, it.summary, it.tag].some((text) => text.toLowerCase().includes(wanted)));
  const tags = [...new Set(shown.map((it) => it.tag))];
  return (
    <>
      <Heading title="API reference">
        <a className="button" href="/docs" target="_blank" rel="noreferrer">
          Open the full reference ↗
        </a>
      </Heading>
      <section className="card" aria-label="Operations">
        <p className="quiet">
          What each call needs, and whether the chosen caller may make it. <em>Try it</em> opens the call in the full reference; paste the key’s secret there under <em>Authorize</em>.
        </p>
        <div className="toolbar">
          <Field label="As">
            {(props) => (
              <select {...props} value={key?.id ?? MINE} onChange={(event) => setKey(choice.find((it) => it.id === event.target.value))}>
                <option value={MINE}>My session ({me?.role})</option>
                {choice.map((it) => (
                  <option key={it.id} value={it.id}>
                    {it.name} (…{it.last4})
                  </option>
                ))}
              </select>
            )}
          </Field>
          {(named !== '' || list.data?.next) && <SearchField label="Find a key" value={named} placeholder="Part of a name, last four, or id" onSearch={setNamed} />}
          <Field label="Search">{(props) => <input {...props} type="search" value={search} onChange={(event) => setSearch(event.target.value)} placeholder="Path, operation…" />}</Field>
        </div>
        {key && (
          <p className="small">
            Holds {key.scopes.map((it) => <code key={it}>{it} </code>)}
          </p>
        )}
        <Failure of={[document, list]} />
        {document.isPending && <Loading rows={8} />}
        {document.isSuccess && shown.length === 0 && <Empty title="No operation fits the search" />}
        {tags.map((tag) => (
          <div key={tag}>
            <h2>{tag}</h2>
            <Table label={`Operations of ${tag}`} columns={['Operation', 'What it does', 'Chosen caller']} actions>
              {shown
                .filter((it) => it.tag === tag)
                .map((it) => (
                  <tr key={it.id}>
                    <td className="name">
                      <code>
                        {it.method} {it.path}
                      </code>
                    </td>
                    <td>
                      {it.summary}
                      <div className="quiet small">{it.id}</div>
                    </td>
                    <td>
                      <May operation={it} kind={key ? 'secret_key' : 'session'} scopes={scopes} />
                    </td>
                    <td>
                      <a href={`/docs#/${it.tag}/${it.id}`} target="_blank" rel="noreferrer" >
                        Try it<span className="unseen">: {it.id}</span> ↗
                      </a>
                    </td>
                  </tr>
                ))}
            </Table>
          </div>
        ))}
      </section>
    </>
  );
}

function May({ operation, kind, scopes }: { operation: Operation; kind: 'secret_key' | 'session'; scopes: string[] }) {
  if (operation.ways.length === 0) return <Badge tone="good">anybody</Badge>;
  const it = verdict(operation, kind, scopes);
  switch (it.answer) {
    case 'allowed':
      return <Badge tone="good">allowed</Badge>;
    case 'reserved':
      return <Badge tone="plain">reserved</Badge>;
    case 'other credential':
      return <span className="quiet small">takes a {it.kinds.map((one) => one.replace('_', ' ')).join(' or a ')}</span>;
    case 'lacks':
      return (
        <span className="small">
          lacks <code>{it.missing.join(' or ')}</code>
        </span>
      );
  }
}
