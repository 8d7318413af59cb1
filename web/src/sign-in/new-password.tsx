/** Where a link for a forgotten password leads: somebody signed in by it chooses a new one. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import { useAuth } from "../auth";
import { navigate } from "../router";
import { Button } from "../ui/controls";
import { isTouch } from "../ui/hooks";
import { toast } from "../ui/toasts";
import { Gate, PasswordBox, ProblemNotice, useProblem } from "./gate";

export function NewPasswordPage() {
  const { client } = useAuth();
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const { problem, waitS, fail, clear, invalid } = useProblem();
  const box = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (!isTouch()) box.current?.focus();
  }, []);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    clear();
    const { error } = await client.auth.updateUser({ password });
    setBusy(false);
    if (error) {
      fail(error);
      box.current?.focus();
      return;
    }
    toast("Your password is changed. Your other devices are signed out.");
    navigate("/", { replace: true });
  };

  return (
    <Gate title="Choose a new password" lead="You are signed in. Your other devices will be signed out.">
      <form className="gate-form" onSubmit={(event) => void submit(event)}>
        <ProblemNotice problem={problem} waitS={waitS} />
        <PasswordBox ref={box} id="password" label="New password" value={password} onChange={setPassword} fresh invalid={invalid("password")} help="Long beats complicated: a few words you remember are fine." />
        <Button tone="primary" type="submit" className="button-wide" busy={busy} disabled={waitS > 0 || password === ""}>
          {waitS > 0 ? `Wait ${waitS} s` : "Change password"}
        </Button>
      </form>
      <p className="gate-other">
        <button type="button" className="text-button" onClick={() => navigate("/", { replace: true })}>
          Keep the old one
        </button>
      </p>
    </Gate>
  );
}
