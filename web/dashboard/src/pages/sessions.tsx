// Where this person is signed in.
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api';
import { count } from '../format';
import { sessions } from '../queries';
import { Badge, Confirm, Failure, Heading, Loading, Time } from '../ui';

export function SessionsPage() {
  const list = useQuery(sessions());
  const [ending, setEnding] = useState<Schemas['OpenSession'][]>();
  const others = list.data?.items.filter((it) => !it.current) ?? [];
  return (
    <>
      <Heading title="Sessions">
        {others.length > 0 && (
          <button type="button" className="danger" onClick={() => setEnding(others)}>
            End all others
          </button>
        )}
      </Heading>
      <section className="card" aria-label="Your sessions">
        <p className="quiet">Where you are signed in. A session ends after a day without use, and after 30 days at the latest.</p>
        <Failure of={[list]} />
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
              <button type="button" onClick={() => setEnding([it])}>
                End
              </button>
            )}
          </div>
        ))}
      </section>
      {ending && (
        <Confirm
          title={ending.length === 1 ? 'End this session' : 'End all other sessions'}
          action={`End ${count(ending.length, 'session')}`}
          act={async () => {
            for (const { id } of ending) await ask(api.DELETE('/auth/sessions/{id}', { params: { path: { id } } }));
          }}
          onClose={() => setEnding(undefined)}
        >
          <p>Whoever uses {ending.length === 1 ? 'it' : 'them'} is signed out at once, and has to sign in again:</p>
          <ul>
            {ending.map((it) => (
              <li key={it.id}>
                {it.userAgent || 'Unknown browser'} from {it.address}, last seen <Time at={it.lastSeenAt} />
              </li>
            ))}
          </ul>
        </Confirm>
      )}
    </>
  );
}
