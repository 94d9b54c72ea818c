// ---- Names of LaTeX that stand for a character, and letters of other alphabets.

const pairs = (text) => new Map(text.trim().split(/\s+/).map((each) => [each.split("=", 1)[0], each.slice(each.indexOf("=") + 1)]));

const kGreek = pairs(`alpha=α beta=β gamma=γ delta=δ epsilon=ϵ varepsilon=ε zeta=ζ eta=η theta=θ vartheta=ϑ iota=ι kappa=κ lambda=λ
  mu=μ nu=ν xi=ξ omicron=ο pi=π varpi=ϖ rho=ρ varrho=ϱ sigma=σ varsigma=ς tau=τ upsilon=υ phi=ϕ varphi=φ chi=χ psi=ψ omega=ω
  Gamma=Γ Delta=Δ Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ Upsilon=Υ Phi=Φ Psi=Ψ Omega=Ω
  infty=∞ partial=∂ nabla=∇ ell=ℓ hbar=ℏ Re=ℜ Im=ℑ aleph=ℵ emptyset=∅ varnothing=∅ imath=ı jmath=ȷ wp=℘ top=⊤ bot=⊥
  angle=∠ degree=° dots=… ldots=… cdots=⋯ vdots=⋮ ddots=⋱ square=□ blacksquare=■ checkmark=✓`);

const kOperators = pairs(`times=× cdot=⋅ div=÷ pm=± mp=∓ ast=∗ star=⋆ circ=∘ bullet=∙ oplus=⊕ ominus=⊖ otimes=⊗ odot=⊙ setminus=∖
  cap=∩ cup=∪ wedge=∧ land=∧ vee=∨ lor=∨ neg=¬ lnot=¬ le=≤ leq=≤ ge=≥ geq=≥ ne=≠ neq=≠ ll=≪ gg=≫ approx=≈ sim=∼ simeq=≃ cong=≅
  equiv=≡ propto=∝ in=∈ notin=∉ ni=∋ subset=⊂ subseteq=⊆ supset=⊃ supseteq=⊇ mid=∣ nmid=∤ parallel=∥ perp=⊥ forall=∀ exists=∃ nexists=∄
  to=→ rightarrow=→ leftarrow=← gets=← leftrightarrow=↔ Rightarrow=⇒ Leftarrow=⇐ Leftrightarrow=⇔ implies=⟹ impliedby=⟸ iff=⟺
  mapsto=↦ longrightarrow=⟶ longleftarrow=⟵ hookrightarrow=↪ uparrow=↑ downarrow=↓ nearrow=↗ searrow=↘ therefore=∴ because=∵
  prec=≺ succ=≻ preceq=⪯ succeq=⪰ vdash=⊢ models=⊨ triangleq=≜ coloneqq=≔ colon=: lbrace={ rbrace=} langle=⟨ rangle=⟩ lfloor=⌊ rfloor=⌋
  lceil=⌈ rceil=⌉ vert=| lvert=| rvert=| Vert=‖ lVert=‖ rVert=‖ backslash=\\ prime=′ dagger=† amalg=⨿ leqslant=⩽ geqslant=⩾ lesssim=≲ gtrsim=≳`);

// Limits stand above and below these in a formula of its own line; beside the integrals.
const kSums = pairs(`sum=∑ prod=∏ coprod=∐ bigcup=⋃ bigcap=⋂ bigoplus=⨁ bigotimes=⨂ bigwedge=⋀ bigvee=⋁
  lim=lim limsup=lim\u00a0sup liminf=lim\u00a0inf max=max min=min sup=sup inf=inf argmax=arg\u00a0max argmin=arg\u00a0min det=det gcd=gcd Pr=Pr`);
const kIntegrals = pairs("int=∫ iint=∬ iiint=∭ oint=∮");

const kFunctions = new Set(`sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth log ln lg exp dim ker hom arg deg
  mod`.split(/\s+/));

const kAccents = pairs("hat=^ widehat=^ bar=¯ overline=‾ vec=→ overrightarrow=→ overleftarrow=← tilde=~ widetilde=~ dot=˙ ddot=¨ acute=´ grave=` check=ˇ breve=˘ overbrace=⏞");
const kUnder = pairs("underline=_ underbrace=⏟");
const kNegated = pairs("∈=∉ ⊂=⊄ ⊆=⊈ ≡=≢ ∼=≁ ≈=≉ ∃=∄ <=≮ >=≯ ∣=∤ ∥=∦").set("=", "≠");

// Code points of A, a and 0 in each alphabet, and the letters that stand elsewhere.
const kAlphabets = new Map([
  ["mathbf", [0x1d400, 0x1d41a, 0x1d7ce, ""]],
  ["mathbb", [0x1d538, 0x1d552, 0x1d7d8, "CℂHℍNℕPℙQℚRℝZℤ"]],
  ["mathcal", [0x1d49c, 0x1d4b6, 0, "BℬEℰFℱHℋIℐLℒMℳRℛeℯgℊoℴ"]],
  ["mathfrak", [0x1d504, 0x1d51e, 0, "CℭHℌIℑRℜZℨ"]],
  ["mathsf", [0x1d5a0, 0x1d5ba, 0x1d7e2, ""]],
  ["mathtt", [0x1d670, 0x1d68a, 0x1d7f6, ""]],
]);
for (const [alias, name] of [["boldsymbol", "mathbf"], ["bm", "mathbf"], ["mathscr", "mathcal"]]) kAlphabets.set(alias, kAlphabets.get(name));

function inAlphabet(alphabet, c) {
  const [upper, lower, digit, others] = alphabet;
  const other = others.indexOf(c);
  if (other >= 0) return others[other + 1];
  if (c >= "A" && c <= "Z") return String.fromCodePoint(upper + c.charCodeAt(0) - 65);
  if (c >= "a" && c <= "z") return String.fromCodePoint(lower + c.charCodeAt(0) - 97);
  if (c >= "0" && c <= "9" && digit > 0) return String.fromCodePoint(digit + c.charCodeAt(0) - 48);
  return c;
}
