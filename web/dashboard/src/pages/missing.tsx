// Where there is nothing to show: unknown addresses, things that do not exist, and pages that break. Each keeps the way on.
import { useQuery } from '@tanstack/react-query';
import { Link, useRouter, type ErrorComponentProps } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { Refusal } from '../api';
import { session } from '../queries';
import { Heading, Trouble } from '../ui';
import { Shell } from './shell';

/** An address that no page has. Who is signed in keeps the navigation. */
export function NotFound() {
  const { data: me } = useQuery({ ...session, enabled: false });
  const said = (
    <>
      <Heading title="Page not found" />
      <div className="card">
        <p>
          No page has the address <code>{window.location.pathname}</code>. It may be mistyped, or what it named is gone.
        </p>
        <Link to="/developer">Go to the Developer page</Link>
      </div>
    </>
  );
  return me ? <Shell>{said}</Shell> : <Alone>{said}</Alone>;
}

/** A page that failed while it was drawn. Nothing that was saved is affected. */
export function Broken({ error, reset }: ErrorComponentProps) {
  const router = useRouter();
  const again = () => {
    reset();
    void router.invalidate();
  };
  // Not the dashboard's fault: what the page begins with could not be loaded.
  if (error instanceof Refusal) {
    return (
      <>
        <Heading title="This page could not be loaded" />
        <Trouble error={error} again={again} />
      </>
    );
  }
  return (
    <>
      <Heading title="This page could not be shown" />
      <div className="card">
        <p>An error in the dashboard stopped it. Nothing that was saved is affected, and the other pages still work.</p>
        <p className="quiet small">
          <code>{error instanceof Error ? error.message : String(error)}</code>
        </p>
        <div className="actions">
          <button type="button" className="primary" onClick={again}>
            Try again
          </button>
          <Link to="/developer">Go to the Developer page</Link>
        </div>
      </div>
    </>
  );
}

/** The same where not even the navigation could be shown. */
export function BrokenAlone(props: ErrorComponentProps) {
  return (
    <Alone>
      <Broken {...props} />
    </Alone>
  );
}

type FailedProps = {
  /** What was looked for: `key`. */
  what: string;
  error: Error;
  again: () => void;
  /** The way back. */
  children: ReactNode;
};

/** In place of one thing that does not exist in this organization, or that could not be loaded. */
export function Failed({ what, error, again, children }: FailedProps) {
  // An id that can't be one is refused before anything is looked up.
  const missing = error instanceof Refusal && [400, 404].includes(error.problem.status);
  return (
    <>
      <p>{children}</p>
      <Heading title={missing ? `No such ${what}` : `The ${what} could not be loaded`} />
      {missing ? (
        <div className="card">
          <p>This organization has no {what} with the id in this address. The link may be mistyped, from another organization, or to something that was deleted.</p>
        </div>
      ) : (
        <>
          <Trouble error={error} />
          <div className="actions">
            <button type="button" className="primary" onClick={again}>
              Try again
            </button>
          </div>
        </>
      )}
    </>
  );
}

function Alone({ children }: { children: ReactNode }) {
  return (
    <main className="alone" id="main">
      <div>{children}</div>
    </main>
  );
}
