// What was done, by whom, and whether the chain that tells of it is whole.
import { useInfiniteQuery, useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useQueryFields } from '../address';
import { api, ask, page, type Schemas } from '../api';
import { count, midnight } from '../format';
import { auditEvents, holds, members, session, type AuditFilter } from '../queries';
import { Empty, Failure, Field, Heading, Loading, More, Notice, Table, Text, Time } from '../ui';

const ACTIONS = [
  'setup.completed', 'session.started', 'session.ended', 'login.failed', 'api_key.minted', 'api_key.changed', 'api_key.rotated', 'api_key.revoked',
  'api_key.used_in_browser', 'publishable_key.minted', 'publishable_key.changed', 'publishable_key.rotated', 'publishable_key.revoked', 'member.invited',
  'member.invite_withdrawn', 'member.joined', 'member.role_changed', 'member.removed', 'organization.created', 'organization.changed',
  'user.password_changed', 'agent.created', 'agent.changed', 'agent.published', 'agent.rolled_back', 'agent.deleted', 'widget.changed',
  'audit.rewound',
];

export function AuditPage() {
  const [{ action, actor, target, from, to }, set] = useQueryFields('action', 'actor', 'target', 'from', 'to');
  const [saved, setSaved] = useState(0);
  const { data: me } = useQuery(session);
  const people = useQuery({ ...members(), enabled: holds(me, 'members:read') });
  // The last day counts whole.
  const wanted = { action, actor, target, from: midnight(from), to: midnight(to, 86_400_000 - 1) };
  const filter: AuditFilter = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== ''));
  const events = useInfiniteQuery(auditEvents(filter));
  const verify = useMutation({ mutationFn: () => ask(api.GET('/audit-events/verify')) });
  const save = useMutation({
    mutationFn: async () => {
      const rows: Schemas['AuditEvent'][] = [];
      let cursor: string | null = null;
      do {
        const read: { items: Schemas['AuditEvent'][]; next: string | null } = await page(
          api.GET('/audit-events', { params: { query: { limit: 100, ...filter, ...(cursor ? { cursor } : {}) } } }),
        );
        rows.push(...read.items);
        cursor = read.next;
        setSaved(rows.length);
      } while (cursor);
      const lines = rows.map((it) => JSON.stringify(it)).join('\n');
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([`${lines}\n`], { type: 'application/x-ndjson' }));
      link.download = 'audit-events.jsonl';
      link.click();
      URL.revokeObjectURL(link.href);
      return rows.length;
    },
  });
  const rows = events.data?.pages.flatMap((it) => it.items) ?? [];
  return (
    <>
      <Heading title="Audit log">
        <button type="button" disabled={verify.isPending} onClick={() => verify.mutate()}>
          {verify.isPending ? 'Checking…' : 'Check the chain'}
        </button>
        <button type="button" disabled={save.isPending} onClick={() => save.mutate()}>
          {save.isPending ? `Gathering… ${saved}` : 'Export JSON lines'}
        </button>
      </Heading>
      <Failure of={[verify, save]} />
      {save.isSuccess && <Notice tone="good">{count(save.data, 'event was', 'events were')} saved, newest first.</Notice>}
      {verify.data &&
        (verify.data.intact ? (
          <Notice tone="good">
            The chain is intact: {count(verify.data.events, 'event')}. Its end is <code>{verify.data.head}</code>
          </Notice>
        ) : (
          <Notice tone="bad">
            {verify.data.brokenAt === null
              ? 'The chain can’t be trusted: what the server keeps of it was changed. Tell whoever runs the server.'
              : `The chain is broken at event ${verify.data.brokenAt}: the database was changed, or an older copy took its place. Tell whoever runs the server.`}
          </Notice>
        ))}
      <section className="card" aria-label="Events">
        <div className="toolbar">
          <Field label="Action">
            {(props) => (
              <select {...props} value={action} onChange={(event) => { set({ action: event.target.value }); }}>
                <option value="">Any</option>
                {ACTIONS.map((it) => (
                  <option key={it}>{it}</option>
                ))}
              </select>
            )}
          </Field>
          {people.data && (
            <Field label="Who">
              {(props) => (
                <select {...props} value={actor} onChange={(event) => { set({ actor: event.target.value }); }}>
                  <option value="">Anybody</option>
                  {people.data.map((it) => (
                    <option key={it.userId} value={it.userId}>
                      {it.name}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          )}
          <Text label="From" type="date" value={from} onChange={(value) => { set({ from: value }, true); }} />
          <Text label="To" type="date" value={to} onChange={(value) => { set({ to: value }, true); }} />
        </div>
        {target && (
          <div className="actions">
            <span>
              Only what was done to <code>{target}</code>
            </span>
            <button type="button" onClick={() => { set({ target: '' }); }}>
              Show everything
            </button>
          </div>
        )}
        <Failure of={[events, people]} />
        {events.isPending && <Loading rows={6} />}
        {events.isSuccess && rows.length === 0 && <Empty title="No event fits" />}
        {rows.length > 0 && (
          <Table label="Table of events" columns={['#', 'When', 'Who', 'What', 'To what', 'From']}>
            {rows.map((it) => (
              <tr key={it.id}>
                <td>{it.sequence}</td>
                <td>
                  <Time at={it.at} />
                </td>
                <td>{it.actor.name || it.actor.kind}</td>
                <td>
                  <code>{it.action}</code>
                </td>
                <td className="name" title={it.target.id ?? undefined}>{it.target.name || it.target.kind}</td>
                <td>{it.address}</td>
              </tr>
            ))}
          </Table>
        )}
        <More of={events} what="Older events" />
      </section>
    </>
  );
}
