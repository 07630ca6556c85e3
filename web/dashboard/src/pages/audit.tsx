// What was done, by whom, and whether the chain that tells of it is whole.
import { useInfiniteQuery, useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { all, api, ask, page } from '../api';
import { Empty, Field, Heading, Loading, Notice, Table, Time, Trouble } from '../ui';

const ACTIONS = [
  'setup.completed', 'session.started', 'session.ended', 'login.failed', 'api_key.minted', 'api_key.changed', 'api_key.rotated', 'api_key.revoked',
  'api_key.used_in_browser', 'publishable_key.minted', 'publishable_key.changed', 'publishable_key.rotated', 'publishable_key.revoked', 'member.invited',
  'member.invite_withdrawn', 'member.joined', 'member.role_changed', 'member.removed', 'organization.created', 'organization.changed',
  'user.password_changed', 'agent.created', 'agent.changed', 'agent.published', 'agent.rolled_back', 'agent.deleted', 'widget.changed',
];

export function AuditPage() {
  const [action, setAction] = useState('');
  const filter = action === '' ? {} : { action };
  const events = useInfiniteQuery({
    queryKey: ['audit', action],
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam }) =>
      page(api.GET('/audit-events', { params: { query: { limit: 50, ...filter, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next ?? undefined,
  });
  const verify = useMutation({ mutationFn: () => ask(api.GET('/audit-events/verify')) });
  const save = useMutation({
    mutationFn: async () => {
      const rows = await all((cursor) =>
        page(api.GET('/audit-events', { params: { query: { limit: 100, ...filter, ...(cursor ? { cursor } : {}) } } })),
      );
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
          {save.isPending ? 'Gathering…' : 'Export JSON lines'}
        </button>
      </Heading>
      <Trouble error={verify.error ?? save.error} />
      {save.isSuccess && <Notice tone="good">The newest {save.data} events were saved{save.data >= 1000 ? '; there may be more' : ''}.</Notice>}
      {verify.data &&
        (verify.data.intact ? (
          <Notice tone="good">
            The chain is whole: {verify.data.events} events. Its end is <code>{verify.data.head}</code>
          </Notice>
        ) : (
          <Notice tone="bad">The chain is broken at event {verify.data.brokenAt}: somebody changed the database.</Notice>
        ))}
      <section className="card" aria-label="Events">
        <div className="toolbar">
          <Field label="Action">
            {(props) => (
              <select {...props} value={action} onChange={(event) => setAction(event.target.value)}>
                <option value="">Any</option>
                {ACTIONS.map((it) => (
                  <option key={it}>{it}</option>
                ))}
              </select>
            )}
          </Field>
        </div>
        <Trouble error={events.error} />
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
                <td title={it.target.id ?? undefined}>{it.target.name || it.target.kind}</td>
                <td>{it.address}</td>
              </tr>
            ))}
          </Table>
        )}
        {events.hasNextPage && (
          <div className="actions">
            <button type="button" disabled={events.isFetchingNextPage} onClick={() => void events.fetchNextPage()}>
              {events.isFetchingNextPage ? 'Loading…' : 'Older events'}
            </button>
          </div>
        )}
      </section>
    </>
  );
}
