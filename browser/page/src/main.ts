import "./page.css";
import { Desk } from "./desk.ts";
import { deviceIdIn } from "./deviceId.ts";
import { type Identity, LocalIdentity, TokenIdentity } from "./identity.ts";
import { keepSignIn, keptSignIn } from "./keptSignIn.ts";
import { KeptTickets, TICKETS_KEY } from "./keptTickets.ts";
import { keptValues } from "./keptValues.ts";
import { LocalControl, LocalControlError } from "./localControl.ts";
import { loadPageConfig, type PageConfig } from "./pageConfig.ts";
import { PodsPanel } from "./panel/podsPanel.ts";
import { find, setText } from "./view/dom.ts";
import { LinkView } from "./view/linkView.ts";
import { NoticeView } from "./view/noticeView.ts";
import { type SignIn, SignInView } from "./view/signInView.ts";
import { installThemeToggle } from "./view/themeToggle.ts";

/** Who somebody is in the local run, who has not said otherwise. */
const LOCAL_USER = "1";

/** The composition root: everything is made here, once. */
function openPage(config: PageConfig, notice: NoticeView): void {
  const lasting = keptValues(() => localStorage);
  const ofThisTab = keptValues(() => sessionStorage);
  const control = config.local && new LocalControl(config.local);
  const urls = config.pods.length > 0 ? pageFirst(config.pods, location.origin) : [location.origin];
  const signOutButton = find("sign-out", HTMLButtonElement);
  const who = find("who", HTMLElement);
  const pods = control && new PodsPanel(control, ({ words }) => notice.show(words));
  setText(find("version", HTMLElement), config.version);

  const desk = new Desk({
    urls,
    deviceId: deviceIdIn(lasting),
    tickets: new KeptTickets(lasting),
    tabValues: ofThisTab,
    link: new LinkView(),
    notice,
    pods,
    onRefused: (words) => leave(words),
  });
  const signInView = new SignInView((signIn) => void enter(signIn));
  installThemeToggle(lasting, () => desk.recolour());
  addEventListener("storage", (event) => {
    if (event.key === TICKETS_KEY) desk.recallTickets();
  });
  signOutButton.addEventListener("click", () => leave(""));

  /** Grows with everybody who comes or leaves: of two who come at once the later one is let in. */
  let visits = 0;
  const kept = keptSignIn(ofThisTab) ?? (control ? { kind: "local", user: LOCAL_USER } : { kind: "out" });
  if (kept.kind === "token" || (kept.kind === "local" && control)) void enter(kept);
  else signInView.show(control !== null);

  async function enter(signIn: SignIn): Promise<void> {
    visits += 1;
    const visit = visits;
    const identity = identityOf(signIn);
    const objection = await objectionTo(identity);
    if (visit !== visits) return;
    if (objection) {
      leave(objection);
      return;
    }
    keepSignIn(ofThisTab, signIn);
    signInView.hide();
    setText(who, `User ${identity.user}`);
    who.hidden = signOutButton.hidden = false;
    desk.open(identity);
  }

  function leave(words: string): void {
    visits += 1;
    desk.close();
    keepSignIn(ofThisTab, { kind: "out" });
    who.hidden = signOutButton.hidden = true;
    signInView.show(control !== null, words);
  }

  function identityOf(signIn: SignIn): Identity {
    return signIn.kind === "local" && control
      ? new LocalIdentity(control, signIn.user)
      : new TokenIdentity(signIn.kind === "token" ? signIn.token : "");
  }

  /** Why this user cannot come in, in words; empty for who can try. The service itself is asked by connecting. */
  async function objectionTo(identity: Identity): Promise<string> {
    try {
      await identity.getToken("connect");
      return "";
    } catch (error) {
      return error instanceof LocalControlError ? localWords(error) : "No token could be had. Try again.";
    }
  }
}

/** The pod that served the page comes first: it is known to be there. */
function pageFirst(pods: readonly string[], origin: string): readonly string[] {
  const port = new URL(origin).port;
  return [...pods].sort((one, other) => Number(new URL(other).port === port) - Number(new URL(one).port === port));
}

function localWords(error: LocalControlError): string {
  return error.status === 409 ? "This run does not make its own tokens. Sign in with one of yours." : error.message;
}

const notice = new NoticeView();
loadPageConfig().then(
  (config) => openPage(config, notice),
  () => {
    const again = { label: "Try again", run: () => location.reload() };
    notice.show("The service does not answer. Check your network, then try again.", again);
  },
);
