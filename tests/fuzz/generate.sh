#!/usr/bin/env bash
# Makes the fixtures and the seeds of the corpus, with the real ssh-keygen. Throw-away keys: the private halves are not kept.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fixtures=$PWD/fixtures corpus=$PWD/corpus
mkdir -p "$fixtures"
for target in certificate signature ca_file principals revoked agent decision options auth_info command ipc worker relay pam_words hosts feed policy admin_command login_proof front_socket; do mkdir -p "$corpus/$target"; done
cd "$work"

keygen() { ssh-keygen -q -N '' -C '' "$@"; }
blob() { cut -d' ' -f2 "$1" | base64 -d; }
u32() { printf '%08x' "$1" | sed 's/../\\x&/g' | xargs -0 printf '%b'; }
string() { u32 "$(stat -c %s "$1")"; cat "$1"; }

# Keys of every type that ssh-keygen makes without a token, and FIDO ones with a made-up point (the Ed25519 and P-256 keys') and application.
for kind in ed25519 ecdsa-256 ecdsa-384 ecdsa-521 rsa-2048 rsa-3072; do
  keygen -t "${kind%-*}" $([ "$kind" = "${kind#*-}" ] || echo -b "${kind#*-}") -f "$kind"
done
fido() { # NAME TYPE FIELDS: the type's name, the fields as they stand, the application
  { printf %s "$2" > type; printf 'ssh:' > application; string type; cat "$3"; string application; } > "$1.blob"
  echo "$2 $(base64 -w0 "$1.blob")" > "$1.pub"
}
blob ed25519.pub | tail -c +16 > fields && fido sk-ed25519 sk-ssh-ed25519@openssh.com fields
blob ecdsa-256.pub | tail -c +24 > fields && fido sk-ecdsa sk-ecdsa-sha2-nistp256@openssh.com fields
cat {ed25519,ecdsa-256,ecdsa-384,ecdsa-521,rsa-2048,rsa-3072,sk-ed25519,sk-ecdsa}.pub > "$fixtures/keys.pub"

keygen -t ed25519 -f ca
keygen -t rsa -b 2048 -f rsa_ca
cat ca.pub rsa_ca.pub > "$fixtures/cas"
keygen -t ed25519 -f alice
ssh-keygen -q -s ca -I alice -n alice -z 7 -V 20200101:21000101 alice.pub
cp alice-cert.pub "$fixtures/alice-cert.pub"

# Certificates: each key type, options of every kind, a host's, one by RSA, one with many principals.
seed=0
certify() { # KEY CA ssh-keygen-options
  cp "$1.pub" one.pub
  ssh-keygen -q -s "$2" -V 20200101:21000101 "${@:3}" one.pub
  seed=$((seed + 1))
  blob one-cert.pub > "$corpus/certificate/$(printf %02d $seed)-$1-$2"
}
for key in ed25519 ecdsa-256 ecdsa-384 ecdsa-521 rsa-2048 sk-ed25519 sk-ecdsa; do certify "$key" ca -I alice -n alice -z 7; done
certify ed25519 rsa_ca -I alice -n alice
certify ed25519 ca -I web1 -n web1,web1.example.com -h
certify ed25519 ca -I '' -n alice -O clear -O force-command=/bin/true -O source-address=10.0.0.0/8,fe80::/64 -O verify-required
certify ed25519 ca -I alice -n "$(seq -s, 40)" -O no-touch-required -O extension:login-time@ussh=12345678 -O critical:odd@example.com=x
cp alice-cert.pub "$corpus/certificate/line"
for key in ed25519 ecdsa-256 rsa-2048 sk-ed25519 sk-ecdsa; do blob "$key.pub" > "$corpus/certificate/key-$key"; done

# Signatures as each key type makes them, behind the number of the key in fixtures/keys.pub; and a whole SSHSIG.
number=0
for key in ed25519 ecdsa-256 ecdsa-384 ecdsa-521 rsa-2048 rsa-3072; do
  echo message > m && rm -f m.sig && ssh-keygen -q -Y sign -n pam-ussh@ussh -f "$key" m
  sed '1d;$d' m.sig | base64 -d > sig
  # Behind the preamble and the version: key, namespace, reserved, hash, signature (PROTOCOL.sshsig).
  { printf "\\x0$number"; perl -0777 -ne 'print +(unpack "x10 (N/a)5")[4]' sig; } > "$corpus/signature/$key"
  cp sig "$corpus/signature/sshsig-$key"
  number=$((number + 1))
done

# Files.
cp "$fixtures/cas" "$corpus/ca_file/two"
printf '# a comment\n\n\t %s  trailing words\r\nrestrict %s\nssh-rsa AAAA\n' "$(cat ca.pub)" "$(cat ca.pub)" > "$corpus/ca_file/odd"
cat alice-cert.pub ca.pub > "$corpus/ca_file/certificate-first"
printf 'alice\n# comment\n  bob # more\nfrom="10.0.0.0/8",expiry-time="20300101" carol\n\nalice,bob' > "$corpus/principals/lines"
printf 'alice,bob' > "$corpus/principals/list"
krl() { ssh-keygen -q -k -f "$corpus/revoked/$1" "${@:2}"; }
printf 'serial: 7\nserial: 10-20\nserial: 1000\nserial: 1003\nserial: 1005\nid: alice\n' > by_ca
{ echo "key: $(cat ed25519.pub)"; echo "sha1: $(cat rsa-2048.pub)"; echo "sha256: $(cat ecdsa-256.pub)"; } > by_key
krl empty; krl ca -s ca.pub by_ca; krl any -s none by_ca; krl keys by_key; krl certificate alice-cert.pub; krl both -s ca.pub -z 12 by_ca by_key
cat ed25519.pub alice-cert.pub > "$corpus/revoked/plain"

# What an agent answers: a listing (with a plain key, a certificate and a thing), a signature, refusals; and the same one after the other, as a whole talk.
printf comment > c
blob alice-cert.pub > cert; blob ed25519.pub > key; printf thing > thing
frame() { u32 "$(stat -c %s "$1")"; cat "$1"; }
{ printf '\x0c'; u32 3; string thing; string c; string key; string c; string cert; string c; } > listing
{ printf '\x0c'; u32 0; } > none
{ printf 'ssh-ed25519' > a; head -c 64 /dev/zero > s; { string a; string s; } > inner; printf '\x0e'; string inner; } > signature
printf '\x05' > failure
for one in listing none signature failure; do cp "$one" "$corpus/agent/$one"; done
{ printf '\x0d'; string cert; string thing; u32 4; } > "$corpus/agent/sign-request"
{ printf '\x12'; string cert; } > "$corpus/agent/remove-request"
for talk in 'listing signature' 'listing failure' 'none' 'listing listing' 'failure'; do
  for one in $talk; do frame "$one"; done > "$corpus/decision/${talk// /-}"
done

# A PAM line's words, one per line; and sshd's SSH_AUTH_INFO_0.
printf 'ca_file=/etc/ssh/trusted_user_ca\nrevoked_keys=/etc/ssh/revoked_keys\nauthorized_principals=a,b\ngroup=admins\nmax_age=8h\ndebug' > "$corpus/options/usual"
printf 'authorized_principals_file=/etc/p/%%u-%%U\nrequire_user_principal=no\ntimeout=3\nagent_socket=/run/a\nmax_validity=1d' > "$corpus/options/files"
printf 'publickey %s\nkeyboard-interactive/pam\npublickey %s\n' "$(cut -d' ' -f1,2 alice-cert.pub)" "$(cut -d' ' -f1,2 ed25519.pub)" > "$corpus/auth_info/two"
printf 'hostbased %s\npublickey ssh-new-cert-v01@openssh.com AAAA\npublickey %s' "$(cut -d' ' -f1,2 ed25519.pub)" "$(cut -d' ' -f1,2 alice-cert.pub)" > "$corpus/auth_info/odd"

# What the CA's processes read. Messages are postcard's: a number for the variant, a length before each text and list.
printf 'for=1h principals=web,db reason="fix it" now' > "$corpus/command/wish"
printf 'whoami' > "$corpus/command/whoami"
printf 'reason=what for for=90m\033[2J' > "$corpus/command/escape"
converse='\x00\x02\x02\x07Welcome\x00\x0aPassword: '
passed='\x01\x05alice'
printf "\\x00$converse" > "$corpus/ipc/converse"
printf "\\x00$passed" > "$corpus/ipc/passed"
printf '\x01\x02\x06secret\x06123456' > "$corpus/ipc/answers"
printf '\x03\x05alice\xe8\x07\x02\x05staff\x03ops' > "$corpus/ipc/statement"
printf '\x05\x00\x05alice' > "$corpus/ipc/start-worker"
printf '\x07\x00\x01\x04key!\x01\x90\x1c\x01\x03web\x04what' > "$corpus/ipc/issue"
printf '\x21\x01\x06secret' > "$corpus/worker/one"
printf '\x02\x02\x06secret\x06123456' > "$corpus/worker/two"
printf "\\x02\\x17\\x00$converse\\x07\\x00${passed}secret" > "$corpus/relay/login"
printf "\\x03\\x17\\x00$converse\\x17\\x00$converse\\x02\\x00\\x02\\x00wrong\\xffsecret" > "$corpus/relay/refused"
printf "\\x01\\x17\\x00${converse}one\\xfetwo" > "$corpus/relay/two-answers"
printf 'Gr\xc3\xbc\xc3\x9fe\r\nand a line\n' > "$corpus/pam_words/text"
{ printf '\033[2J'; seq 1000; } > "$corpus/pam_words/long"

# What a host says to the CA: a token, a proof by it and by two host keys, one by a host key alone, and answers (docs/hosts.md).
printf 'the nonce of all hosts'"'"' seeds 32' > nonce
raw_signature() { # KEY: over the file m, in the namespace of hosts
  rm -f m.sig && ssh-keygen -q -Y sign -n host@ussh -f "$1" m
  sed '1d;$d' m.sig | base64 -d > sig
  perl -0777 -ne 'print +(unpack "x10 (N/a)5")[4]' sig | base64 -w0
}
signed() { printf '{"key":"%s","signature":"%s"}' "$(cut -d' ' -f1,2 "$1.pub")" "$(raw_signature "$1")"; }
proof() { # VERB TOKEN NAME KEY…: TOKEN may be empty
  printf %s "$1" > verb; : > by; [ -z "$2" ] || blob "$2.pub" > by
  printf %s "$3" > name; string name > names; : > keys
  for key in "${@:4}"; do blob "$key.pub" > key.blob; string key.blob >> keys; done
  { printf '\1'; string verb; string nonce; string by; string names; string keys; } > m
  printf '{'; [ -z "$2" ] || printf '"token":%s,' "$(signed "$2")"
  printf '"names":["%s"],"keys":[' "$3"; local comma=''
  for key in "${@:4}"; do printf '%s%s' "$comma" "$(signed "$key")"; comma=,; done
  printf ']}\n'
}
keygen -t ed25519 -f token
proof enroll token web1 ed25519 ecdsa-256 > "$corpus/hosts/enroll"
proof renew '' web1 ed25519 > "$corpus/hosts/renew"
proof report '' web1 ecdsa-521 > "$corpus/hosts/report"
{ printf ussh-host-; cat nonce nonce | base64 -w0 | tr '+/' '-_' | tr -d =; } > "$corpus/hosts/token"
printf '{"version":1,"verb":"renew","nonce":"%s"}\n' "$(base64 -w0 nonce)" > "$corpus/hosts/hello"
cp ed25519.pub one.pub && ssh-keygen -q -s ca -V 20200101:21000101 -I web1 -n web1 -h one.pub
printf '{"granted":{"host":"web1","certificates":["%s"],"user_ca":["%s"],"known_hosts":"@cert-authority * %s","signature":"AAAA"}}\n' \
  "$(cut -d' ' -f1,2 one-cert.pub)" "$(cut -d' ' -f1,2 alice.pub)" "$(cut -d' ' -f1,2 ca.pub)" > "$corpus/hosts/granted"
printf '{"krl":"U1NIS1JMCgA="}\n' > "$corpus/hosts/krl"
printf '{"refused":"no\\u001b"}\n' > "$corpus/hosts/refused"
# Feeds (ussh-core/src/feed.rs): one, one whose key was handed over, one that is cut short, and a manifest alone.
digest() { printf '{ "size": %s, "sha256": "%s" }' "$(stat -c %s "$1")" "$(sha256sum "$1" | cut -d' ' -f1)"; }
manifest() { # KEY [SUCCESSOR]
  printf '{ "format": 1, "ca": "Example CA", "version": 1800000000, "generated": 1800000000, "valid_until": 1800604800, "feed_key": "%s", ' "$(cut -d' ' -f1,2 "$1.pub")"
  [ -z "${2-}" ] || printf '"successor": "%s", ' "$(cut -d' ' -f1,2 "$2.pub")"
  printf '"files": { "user_ca.pub": %s, "krl": %s, "known_hosts": %s } }\n' "$(digest user_ca.pub)" "$(digest krl)" "$(digest known_hosts)"
}
signed() { # KEY [SUCCESSOR]
  manifest "$@" > manifest && rm -f manifest.sig && ssh-keygen -q -Y sign -n feed@ussh -f "$1" manifest
  string manifest; string manifest.sig
}
cp ca.pub user_ca.pub; cp "$corpus/revoked/ca" krl; echo "@cert-authority *.example.com $(cat rsa-3072.pub)" > known_hosts
files() { string user_ca.pub; string krl; string known_hosts; }
{ printf 'USSH-FEED-1\n'; signed ed25519; files; u32 0; } > "$corpus/feed/whole"
{ printf 'USSH-FEED-1\n'; signed ecdsa-256; files; u32 1; signed ed25519 ecdsa-256; } > "$corpus/feed/handed-over"
head -c 1000 "$corpus/feed/whole" > "$corpus/feed/cut"
manifest ed25519 ecdsa-256 > "$corpus/feed/manifest"

# The CA's policy, a file that it includes behind a record separator; and what administrators ask over ssh, with the signer's answer behind the line (a refusal of one byte of text).
cp "$fixtures/../../e2e/tests/policy_table/policy.toml" "$corpus/policy/table"
printf 'time_zone = "Europe/Berlin"\nadmins = { groups = ["ops"], from = ["10.0.0.0/24"], login_seconds = 60 }\n[host_groups]\nweb = ["web-login"]\n[[rule]]\nname = "on call"\nusers = ["alice"]\nhours = "22:00-06:00"\ndays = ["mon"]\nvalidity_seconds = 60\nprincipals = ["%%u"]\nhosts = ["web"]\n[[rule]]\ninclude = "teams"\n\036[[rule]]\nname = "none"\nfrom = ["192.0.2.0/24"]\nauthentication = ["none"]\nmodes = ["inject", "client-key"]\nvalidity_seconds = 5\nprincipals = ["%%u", "x-%%u"]\nsource_address = ["%%client"]\nforce_command = "id"\n' > "$corpus/policy/all"
printf '[[rule]]\nname = "no"\ndeny = true\n' > "$corpus/policy/deny"
for words in 'list --json -n 3' "revoke 7 --reason 'laptop lost'" 'explain alice --group ops --at 2026-01-31T12:00:00Z --for 1h' 'host sign - --name web1 --json' 'key register alice' 'krl --out -' '--help' 'init'; do
  printf '%s\n\x0c\x01x' "$words" > "$corpus/admin_command/${words//[^a-z0-9]/_}"
done

# The proof of a key (ussh-core/src/login_proof.rs): the signer's message; and, behind a byte for key and purpose, a signature by a key of fixtures/keys.pub over another message, and changes of the right one.
printf 'the nonce of all proofs'"'"' seeds 3' > nonce; printf SHA256:abc > by; printf alice > user; printf login > purpose
blob ed25519.pub | openssl dgst -sha256 -binary > digest
{ printf '\1'; string nonce; string by; printf '\0\0\0\0\0\0\0\7'; string user; string purpose; string digest; printf '\0\0\0\0\x6b\x49\xd2\0'; } > "$corpus/login_proof/message"
for key in ed25519 ecdsa-256 rsa-2048; do
  cp "$corpus/login_proof/message" m && rm -f m.sig && ssh-keygen -q -Y sign -n login@ussh -f "$key" m
  sed '1d;$d' m.sig | base64 -d > sig
  { printf '\0'; perl -0777 -ne 'print +(unpack "x10 (N/a)5")[4]' sig; } > "$corpus/login_proof/signature-$key"
done
printf '\1\40\1alice' > "$corpus/login_proof/changed"; printf '\2\0\0\0\0alice' > "$corpus/login_proof/longer"; printf '\3\7\0\0\0bob' > "$corpus/login_proof/shorter"

# Fronts (tests/fuzz/src/front_socket.rs): steps of two bytes. A login by PAM, its certificate and what became of it; by a key; of both; with the user's own key; a statement that is another connection's; an administrator's list;
# a login that stays one; and packets as they stand.
printf '\1\0\3\0\7\0' > "$corpus/front_socket/pam"
printf '\2\1\5\1\6\6\3\0\10\1' > "$corpus/front_socket/key"
printf '\1\2\5\2\6\2\3\0\7\1' > "$corpus/front_socket/both"
printf '\1\0\5\104\6\4\4\4\7\0' > "$corpus/front_socket/client-key"
printf '\1\0\0\0\3\0\10\0\0\0\3\0\3\0' > "$corpus/front_socket/stolen"
printf '\1\3\11\6\0\0\377\377\377\377\017\1\3\11\1\0\6' > "$corpus/front_socket/admin"
printf '\1\0\10\0\10\1\10\2\10\3' > "$corpus/front_socket/mine"
printf '\13\2\0\3\0\13\1\0\4\13\2\0\6\1\1\0\12\2\0\10\1' > "$corpus/front_socket/packets"
