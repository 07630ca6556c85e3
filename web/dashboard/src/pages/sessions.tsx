// Where this person is signed in.
import { useMutation, useQuery } from '@tanstack/react-query';
import { api, ask } from '../api';
import { queries, sessions } from '../queries';
import { Badge, Heading, Loading, Time, Trouble } from '../ui';

export function SessionsPage() {
  const list = useQuery(sessions);
  const end = useMutation({
    mutationFn: async (ids: string[]) => {
      for (const id of ids) await ask(api.DELETE('/auth/sessions/{id}', { params: { path: { id } } }));
    },
    onSettled: () => void queries.invalidateQueries({ queryKey: ['sessions'] }),
  });
  const others = list.data?.items.filter((it) => !it.current) ?? [];
  return (
    <>
      <Heading title="Sessions">
        {others.length > 0 && (
          <button type="button" className="danger" disabled={end.isPending} onClick={() => end.mutate(others.map((it) => it.id))}>
            {end.isPending ? 'Ending…' : 'End all others'}
          </button>
        )}
      </Heading>
      <section className="card" aria-label="Your sessions">
        <p className="quiet">Where you are signed in. A session ends after a day without use, and after 30 days at the latest.</p>
        <Trouble error={list.error ?? end.error} />
        {list.isPending && <Loading />}
        {list.data?.items.map((it) => (
          <div key={it.id} className="heading">
            <div>
              {it.userAgent || 'Unknown browser'} {it.current && <Badge tone="good">this one</Badge>}
              <div className="quiet small">
                from {it.address}, last seen <Time at={it.lastSeenAt} />, since <Time at={it.createdAt} />
              </div>
            </div>
            {!it.current && (
              <button type="button" disabled={end.isPending} onClick={() => end.mutate([it.id])}>
                End
              </button>
            )}
          </div>
        ))}
      </section>
    </>
  );
}
