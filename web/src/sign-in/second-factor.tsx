/** Asked before the chats open: the second factor of somebody who has one. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import { useAuth, useUser } from "../auth";
import { Button } from "../ui/controls";
import { isTouch } from "../ui/hooks";
import { straight } from "../ui/straight";
import { CodeBox, Gate, ProblemNotice, useProblem } from "./gate";

type Way = "app" | "key" | "recovery";

const LEADS: Record<Way, string> = {
  app: "Type the code that your authenticator app shows.",
  key: "Use the security key that you have added.",
  recovery: "Type one of the recovery codes that you kept. Each works once.",
};
const NAMES: Record<Way, string> = { app: "Use your authenticator app", key: "Use a security key", recovery: "Use a recovery code" };

export function SecondFactorPage() {
  const { client, signOut } = useAuth();
  const factors = useUser().factors?.filter((factor) => factor.status === "verified") ?? [];
  const app = factors.filter((factor) => factor.factor_type === "totp");
  const key = factors.find((factor) => factor.factor_type === "webauthn");
  const codes = factors.some((factor) => String(factor.factor_type) === "recovery_code");
  const possible: Record<Way, boolean> = { app: app.length > 0, key: key !== undefined, recovery: codes };
  const ways = (Object.keys(possible) as Way[]).filter((one) => possible[one]);
  const [way, setWay] = useState<Way>(ways[0] ?? "recovery");
  const [chosen, setChosen] = useState(app[0]?.id ?? "");
  const [code, setCode] = useState("");
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear, invalid } = useProblem();
  const box = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (!isTouch()) box.current?.focus();
  }, [way]);

  const verify = () => {
    const typed = code.trim();
    if (way === "app") return client.auth.mfa.challengeAndVerify({ factorId: chosen, code: typed.replace(/\s/g, "") });
    if (way === "key" && key) return client.auth.mfa.webauthn.authenticate({ factorId: key.id });
    return client.auth.mfa.recoveryCodes.verify({ code: typed });
  };
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    clear();
    const { error } = await verify();
    setBusy(false);
    if (!error) return;
    fail(error);
    box.current?.select();
  };
  const change = (to: Way) => {
    clear();
    setCode("");
    setWay(to);
  };

  return (
    <Gate title="One more step" lead={LEADS[way]}>
      <form className="gate-form" onSubmit={(event) => void submit(event)}>
        <ProblemNotice problem={problem} waitS={waitS} />
        {way === "app" && app.length > 1 ? (
          <label className="field">
            <span className="field-label">App</span>
            <span className="select">
              <select className="input" value={chosen} onChange={(event) => setChosen(event.target.value)}>
                {app.map((factor) => (
                  <option key={factor.id} value={factor.id}>
                    {straight(factor.friendly_name ?? "") || "Authenticator app"}
                  </option>
                ))}
              </select>
            </span>
          </label>
        ) : null}
        {way === "key" ? null : (
          <CodeBox ref={box} label={way === "app" ? "Code" : "Recovery code"} value={code} onChange={setCode} digits={way === "app"} invalid={invalid("code")} />
        )}
        <Button tone="primary" type="submit" className="button-wide" busy={busy} disabled={waitS > 0 || (way !== "key" && code.trim() === "")}>
          {waitS > 0 ? `Wait ${waitS} s` : "Go on"}
        </Button>
      </form>
      <div className="gate-links">
        {ways.filter((one) => one !== way).map((one) => (
          <button key={one} type="button" className="text-button" onClick={() => change(one)}>
            {NAMES[one]}
          </button>
        ))}
        <button type="button" className="text-button" onClick={() => void signOut()}>
          Sign out
        </button>
      </div>
    </Gate>
  );
}
