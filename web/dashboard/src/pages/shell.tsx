// What surrounds every page of a member: where one is, in which organization, and as whom.
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link, Outlet, useNavigate } from '@tanstack/react-router';
import { useEffect, useLayoutEffect, useRef, useState, type ReactNode } from 'react';
import { Refusal, api, ask, isElsewhere, onSignedOut, showOrganization, type Session } from '../api';
import { isHeld, useHeld } from '../held';
import { holds, own, queries, session } from '../queries';
import { learnSession, tellTabs } from '../tabs';
import { choose, theme } from '../theme';
import { Actions, Dialog, Failure, Form, Question, Text, Trouble } from '../ui';
import { SignInAgain } from './entry';

/** Who holds no scope of a page has no use for it; where a server has no such thing, nobody holds one. */
const PAGES = [
  ['/developer', 'Developer', 'keys:read'],
  ['/agents', 'Agents', 'agents:read'],
  ['/conversations', 'Conversations', 'analytics:read'],
  ['/analytics', 'Analytics', 'analytics:read'],
  ['/numbers', 'Numbers', 'numbers:read'],
  ['/wallet', 'Wallet', 'billing:read'],
  ['/members', 'Members', 'members:read'],
  ['/audit', 'Audit log', 'audit:read'],
  ['/sessions', 'Sessions', ''],
  ['/reference', 'API reference', ''],
] as const;

/** `children`: what stands in place of the routed page. */
export function Shell({ children }: { children?: ReactNode }) {
  const { data } = useQuery(session);
  const navigate = useNavigate();
  const [shown, setShown] = useState(theme);
  const [password, setPassword] = useState(false);
  const [making, setMaking] = useState(false);
  const leave = useMutation({
    mutationFn: () => ask(api.POST('/auth/logout')),
    meta: { leaves: true },
    // A session that could not be ended goes on, and the page says so.
    onSuccess: () => {
      queries.clear();
      tellTabs();
      void navigate({ to: '/signin', ignoreBlocker: true });
    },
  });
  const change = useMutation({
    mutationFn: (organizationId: string) => ask(api.POST('/auth/session/organization', { body: { organizationId } })),
    meta: { leaves: true },
    onSuccess: (next) => {
      queries.setQueryData(session.queryKey, next);
      tellTabs();
    },
  });
  // Both take the page away, so they ask first where something on it would go with it.
  const [wish, setWish] = useState<{ act: () => void }>();
  const wished = (act: () => void) => {
    if (isHeld()) setWish({ act });
    else act();
  };
  const organization = data?.organization.id;
  const before = useRef(organization);
  useLayoutEffect(() => {
    showOrganization(organization ?? '');
  }, [organization]);
  useEffect(() => {
    const moved = before.current !== undefined && before.current !== organization;
    before.current = organization;
    // What stands in the address belongs to the organization before.
    if (moved) void navigate({ to: `/${window.location.pathname.split('/')[1] ?? ''}`, search: {}, ignoreBlocker: true });
  }, [organization, navigate]);
  // A session may end while something is being written: the page stays as it is, and signing in again goes on with it.
  const [over, setOver] = useState(false);
  useEffect(() => {
    const forget = onSignedOut(() => {
      setOver(true);
    });
    return () => {
      forget();
    };
  }, []);
  if (!data) return null;
  return (
    <div className="shell">
      <a href="#main" className="skip">
        Skip to the page
      </a>
      <aside className="side">
        <Link to="/developer" className="brand">
          Flowyte
        </Link>
        <nav aria-label="Pages">
          {PAGES.filter(([, , scope]) => scope === '' || holds(data, scope)).map(([path, name]) => (
            <Link key={path} to={path} activeProps={{ className: 'active' }}>
              {name}
            </Link>
          ))}
        </nav>
        <div className="foot small">
          <div className="field">
            <label htmlFor="organization">Organization</label>
            <select
              id="organization"
              value={data.organization.id}
              disabled={change.isPending}
              onChange={(event) => {
                const id = event.target.value;
                wished(() => {
                  if (id === '') setMaking(true);
                  else change.mutate(id);
                });
              }}
            >
              {data.organizations.map((it) => (
                <option key={it.id} value={it.id}>
                  {it.name} ({it.role})
                </option>
              ))}
              <option value="">New organization…</option>
            </select>
          </div>
          <Failure of={[change, leave]} />
          <div className="quiet">
            {data.user.name} <br />
            {data.user.email}
          </div>
          <div className="actions">
            <button
              type="button"
              onClick={() => {
                const next = shown === 'dark' ? 'light' : 'dark';
                choose(next);
                setShown(next);
              }}
            >
              {shown === 'dark' ? 'Light' : 'Dark'}
            </button>
            <button type="button" onClick={() => setPassword(true)}>
              Password
            </button>
            <button type="button" disabled={leave.isPending} onClick={() => { wished(() => { leave.mutate(); }); }}>
              Sign out
            </button>
          </div>
        </div>
      </aside>
      <main id="main" tabIndex={-1} key={data.organization.id}>
        {children ?? <Outlet />}
      </main>
      {over && (
        <SignInAgain
          as={data}
          onBack={() => {
            setOver(false);
          }}
        />
      )}
      {wish && (
        <Question
          title="Leave without saving?"
          stay="Stay"
          leave="Leave without saving"
          onStay={() => {
            setWish(undefined);
          }}
          onLeave={() => {
            setWish(undefined);
            wish.act();
          }}
        >
          What you typed here is not saved.
        </Question>
      )}
      {data.elsewhere && <Elsewhere of={data} to={data.elsewhere} onBack={(id) => change.mutateAsync(id)} />}
      {password && <ChangePassword onClose={() => setPassword(false)} />}
      {making && <NewOrganization onClose={() => setMaking(false)} onMade={(id) => change.mutate(id)} />}
    </div>
  );
}

type ElsewhereProps = {
  /** What the page shows. */
  of: Session;
  /** Where the session is. */
  to: Session['organization'];
  onBack: (organizationId: string) => Promise<unknown>;
};

/** Another tab went to another organization while something on this page is not saved: it stays, and says what can be done. */
function Elsewhere({ of, to, onBack }: ElsewhereProps) {
  const held = useHeld();
  const [asking, setAsking] = useState(true);
  // What is changed all the same is refused, and leads back to this question.
  useEffect(() => {
    const forget = queries.getMutationCache().subscribe(({ mutation }) => {
      if (isElsewhere(mutation?.state.error)) setAsking(true);
    });
    return () => {
      forget();
    };
  }, []);
  useEffect(() => {
    if (!held) learnSession();
  }, [held]);
  const back = useMutation({ mutationFn: () => onBack(of.organization.id), meta: { leaves: true } });
  const follow = useMutation({
    mutationFn: () => ask(api.GET('/auth/session')),
    meta: { leaves: true },
    onSuccess: (now) => queries.setQueryData(session.queryKey, now),
  });
  if (!asking || !held) return null;
  const busy = back.isPending || follow.isPending;
  return (
    <Dialog title={`This page belongs to ${of.organization.name}`} onClose={() => { setAsking(false); }} light>
      <p>
        Another tab went to {to.name}. What is not saved on this page is still here, and can be saved in {of.organization.name} only.
      </p>
      <Trouble error={back.error ?? follow.error} />
      <div className="actions">
        <button type="button" className="primary" disabled={busy} onClick={() => { back.mutate(); }}>
          Go back to {of.organization.name}
        </button>
        <button type="button" disabled={busy} onClick={() => { setAsking(false); }}>
          Look at this page
        </button>
        <button type="button" className="danger" disabled={busy} onClick={() => { follow.mutate(); }}>
          Go to {to.name}, and lose it
        </button>
      </div>
    </Dialog>
  );
}

function ChangePassword({ onClose }: { onClose: () => void }) {
  const [current, setCurrent] = useState('');
  const [next, setNext] = useState('');
  const change = useMutation({
    mutationFn: () => ask(api.POST('/auth/password', { body: { currentPassword: current, newPassword: next } })),
    onSuccess: (fresh) => {
      queries.setQueryData(session.queryKey, fresh);
      void queries.invalidateQueries({ queryKey: own('sessions') });
      onClose();
    },
  });
  const refusal = change.error instanceof Refusal ? change.error : undefined;
  return (
    <Dialog title="Change your password" onClose={onClose}>
      <Form busy={change.isPending} onSubmit={() => change.mutate()}>
        <p>Every other session of yours ends.</p>
        <Text label="Current password" type="password" value={current} onChange={setCurrent} required autoComplete="current-password" />
        <Text label="New password" type="password" value={next} onChange={setNext} required autoComplete="new-password" error={refusal?.field('newPassword')} hint="At least 15 characters." />
        <Trouble error={change.error} />
        <Actions action="Change it" busy={change.isPending} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

function NewOrganization({ onClose, onMade }: { onClose: () => void; onMade: (id: string) => void }) {
  const [name, setName] = useState('');
  const make = useMutation({
    mutationFn: () => ask(api.POST('/organizations', { body: { name } })),
    onSuccess: (made) => {
      onClose();
      onMade(made.id);
    },
  });
  return (
    <Dialog title="New organization" onClose={onClose}>
      <Form busy={make.isPending} onSubmit={() => make.mutate()}>
        <Text label="Name" value={name} onChange={setName} required maxLength={100} />
        <Trouble error={make.error} />
        <Actions action="Make it and go there" busy={make.isPending} onClose={onClose} />
      </Form>
    </Dialog>
  );
}
