/** Decides between the gate and the rooms behind it. */
import { Component, lazy, Suspense, useEffect, useState, type ErrorInfo, type ReactNode } from "react";
import { useAuth } from "./auth";
import { partOf } from "./newest";
import { navigate, useRoute } from "./router";
import { EnrolmentPage } from "./sign-in/enrolment";
import { NewPasswordPage } from "./sign-in/new-password";
import { SecondFactorPage } from "./sign-in/second-factor";
import { SignInPage } from "./sign-in/sign-in";
import { Announcer } from "./ui/announce";
import { Button, FullPage, Spinner } from "./ui/controls";
import { Toasts } from "./ui/toasts";
import { WorkspaceProvider } from "./workspace";

// Asked for at once, so that it is there when the session is known; the gate does not wait for it.
const shell = partOf(() => import("./shell"));
const Shell = lazy(() => shell);

// Where somebody wanted to go when they were asked to sign in.
let wanted = "/";

export function App() {
  return (
    <CrashScreen>
      <Rooms />
      <Toasts />
      <Announcer />
    </CrashScreen>
  );
}

function Rooms() {
  const { state, api } = useAuth();
  const route = useRoute();
  const atGate = route.page === "sign-in";
  const [enrolling, setEnrolling] = useState(false);

  useEffect(() => {
    if (state.status === "signed-out" && !atGate) {
      // After signing out on purpose the next person starts at the front door.
      const left = state.notice === "left" || state.notice === "not-revoked";
      wanted = left || location.pathname === "/new-password" ? "/" : location.pathname;
      navigate("/sign-in", { replace: true });
    }
    if (state.status === "signed-in" && atGate) navigate(wanted, { replace: true });
  }, [state, atGate]);

  switch (state.status) {
    case "loading":
      return <Starting />;
    case "unreachable":
      return (
        <FullPage title="The server cannot be reached" actions={<Button tone="primary" icon="refresh" onClick={() => location.reload()}>Try again</Button>}>
          <p>You are still signed in. This page goes on by itself when the server is back.</p>
        </FullPage>
      );
    case "signed-out":
      return atGate ? <SignInPage mode={route.mode} /> : <Starting />;
    case "signed-in":
      if (atGate) return <Starting />;
      if (state.needs === "enrolment" || enrolling) return <EnrolmentPage key={state.user.id} hold={setEnrolling} />;
      if (state.needs === "second-factor") return <SecondFactorPage />;
      return route.page === "new-password" ? (
        <NewPasswordPage />
      ) : (
        <Suspense fallback={<Starting />}>
          <WorkspaceProvider key={state.user.id} user={state.user} api={api}>
            <Suspense fallback={<Starting />}>
              <Shell />
            </Suspense>
          </WorkspaceProvider>
        </Suspense>
      );
  }
}

export function Starting() {
  return (
    <div className="full-page" role="status">
      <Spinner />
      <span className="visually-hidden">Starting</span>
    </div>
  );
}

class CrashScreen extends Component<{ children: ReactNode }, { crashed: boolean }> {
  override state = { crashed: false };

  static getDerivedStateFromError() {
    return { crashed: true };
  }

  override componentDidCatch(error: Error, info: ErrorInfo) {
    console.error(error, info.componentStack);
  }

  override render() {
    if (!this.state.crashed) return this.props.children;
    return (
      <FullPage title="This page stopped working" actions={<Button tone="primary" icon="refresh" onClick={() => location.reload()}>Load it again</Button>}>
        <p>Your chats and what you typed are kept.</p>
      </FullPage>
    );
  }
}
