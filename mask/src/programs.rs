//! Where programs take secrets that no name tells of: tables of their options, their arguments by place, and of those
//! that read a secret from their standard input.

/// How a program takes secrets. All lists are parted by blanks.
///
/// An option of one letter may have its value attached (`-pSECRET`). `--name` may have it behind `=`; what ends in a
/// colon or `=` (`/p:`, `userid=`) has it behind that.
pub(super) struct Program {
    /// A name that ends in `*` stands for all that begin so.
    pub(super) names: &'static str,
    /// One of these has to be among the arguments; none for always.
    pub(super) when: &'static str,
    /// Options with a secret value.
    pub(super) secret: &'static str,
    /// Letters whose value is secret when it is attached (`mysql -pSECRET`), and that have none otherwise.
    pub(super) attached: &'static str,
    /// Options whose value is secret if it is `user:password`, or `file:password`.
    pub(super) pairs: &'static str,
    /// Options whose value is secret if there is a `=` in it: cookies, which may be a file's name instead.
    pub(super) cookies: &'static str,
    /// Options that only sound like a secret.
    pub(super) shown: &'static str,
    /// Letters with a harmless value: what follows in their argument is no option. Programs that have some allow
    /// letters to be grouped (`-su`).
    pub(super) valued: &'static str,
    /// Single letters stand alone: `-pass` is an option of its own name.
    pub(super) is_whole: bool,
    /// It starts another program, whose options its own stand before.
    pub(super) is_leading: bool,
    /// It is known only where a program is started: its name is one that other programs have as an argument.
    pub(super) is_first: bool,
    /// The values of the secret options are none if they are numbers: ports.
    pub(super) is_number_shown: bool,
    /// Arguments by their place; see `options::mark`.
    pub(super) places: &'static [&'static str],
}

const fn program(names: &'static str, secret: &'static str) -> Program {
    Program {
        names,
        secret,
        when: "",
        attached: "",
        pairs: "",
        cookies: "",
        shown: "",
        valued: "",
        is_whole: false,
        is_leading: false,
        is_first: false,
        is_number_shown: false,
        places: &[],
    }
}

const fn places(names: &'static str, places: &'static [&'static str]) -> Program {
    Program { places, ..program(names, "") }
}

impl Program {
    const fn when(self, when: &'static str) -> Program {
        Program { when, ..self }
    }

    const fn attached(self, attached: &'static str) -> Program {
        Program { attached, ..self }
    }

    const fn pairs(self, pairs: &'static str) -> Program {
        Program { pairs, ..self }
    }

    const fn shown(self, shown: &'static str) -> Program {
        Program { shown, ..self }
    }

    const fn valued(self, valued: &'static str) -> Program {
        Program { valued, ..self }
    }

    const fn whole(self) -> Program {
        Program { is_whole: true, ..self }
    }

    const fn leading(self) -> Program {
        Program { is_leading: true, ..self }
    }

    const fn first(self) -> Program {
        Program { is_first: true, ..self }
    }

    const fn or_number(self) -> Program {
        Program { is_number_shown: true, ..self }
    }

    const fn places(self, places: &'static [&'static str]) -> Program {
        Program { places, ..self }
    }
}

pub(super) const PROGRAMS: &[Program] = &[
    // HTTP.
    Program { cookies: "-b --cookie", ..program("curl", "").valued("AcCdDeFhHKmoPQrtTwxXyYz") }
        .pairs("-u --user -U --proxy-user -E --cert --proxy-cert"),
    program("http https xh xhs", "-a --auth"),
    program("ab", "").pairs("-A -P").whole(),
    program("hey wrk2 bombardier oha k6 vegeta", "").pairs("-a").whole(),
    program("squidclient", "-w -W"),
    program("httpx ffuf gobuster feroxbuster wfuzz nikto dirb", "-P -pwd").pairs("-id -auth --auth").whole(),
    program("sqlmap", "").pairs("--auth-cred --proxy-cred"),
    program("aria2c axel", "--http-passwd --ftp-passwd"),
    program("yt-dlp youtube-dl gallery-dl streamlink svtplay-dl", "-p --ap-password -2 --twofactor"),
    program("davfs2 cadaver", "-p"),
    program("websocat wscat", "--basic-auth").pairs("--auth"),
    program("sshpass", "-p").valued("P").leading(),
    // Databases.
    program("mysql* mariadb* mycli", "").attached("p").valued("ABCDeFhIMnNPrRSTuVwW").pairs("--uri"),
    places("mysqladmin mariadb-admin", &["password S…", "old-password S…"]),
    program("mydumper myloader mysqlpump mytop innotop mysqlslap mysqlreport mysqltuner*", "-p")
        .pairs("--userpass"),
    program("mongo* cqlsh ncftp*", "-p").valued("hu").shown("--authenticationDatabase"),
    program("redis-cli valkey-cli keydb-cli redis-benchmark valkey-benchmark", "-a")
        .valued("hnprsu")
        .shown("--askpass")
        .places(&["auth S…", "setuser >…", "sentinel set _ auth-pass S", "migrate auth S"]),
    program("memtier_benchmark", "-a --authenticate"),
    program("sqlcmd bcp tsql isql osql bteq ttisql", "-P").valued("HUISEdiIoqQ"),
    places("isql iusql", &["1 _ _ s"]),
    program("isql-fb gsec gbak gfix nbackup fbguard", "-password -pas -pa -p -pw").whole(),
    program("cypher-shell couchbase-cli cbq cbbackup cbrestore cbbackupmgr cbimport cbexport cbstats", "-p"),
    program("beeline hive presto trino impala-shell sqoop", "-p").whole(),
    program("influx influxd", "-p -t --http-token").whole(),
    program("vsql admintools", "-w -p").valued("hUdcCpfFoPqRt"),
    program("nodetool sstableloader dsetool cassandra-stress", "-pw -p").whole(),
    program("clickhouse*", "").shown("--ask-password"),
    program("snowsql exaplus nzsql hdbsql monetdb mclient rethinkdb orient*", "-p").whole(),
    program("arangosh arangodump arangoimport arangorestore", "--server.password"),
    program("ij dbisql dbisqlc dbping", "-p"),
    places("db2 db2cli", &["using S", "new S"]),
    places("db2level db2look db2move", &["-w S", "-p S"]),
    places("neo4j-admin", &["set-initial-password S…", "set-default-admin S…"]),
    places("sqlplus sqlldr exp imp expdp impdp sqlcl sql rman dgmgrl", &["1 L…"]),
    program("orapwd", "password="),
    places("surreal", &["-p S", "--pass S"]),
    // Directories, Kerberos and accounts.
    program("ldap*", "-w").valued("abdDefFHhIlOopPRTUXYyzZ"),
    program("ldappasswd", "-s -a"),
    program("smbpasswd", "-w").whole(),
    program("slappasswd", "-s"),
    program(
        "smbclient smbget smbcacls smbpasswd rpcclient net smbspool smbmap nmblookup smbtree",
        "-U --user",
    )
    .valued("AcdIlmnpRsTW"),
    places("smbclient", &["1 _ s"]),
    program("smbmap", "-p --password"),
    places("samba-tool", &["user create _ S", "user add _ S", "user setpassword _ --newpassword S"]),
    program("kadmin", "-w -pw").whole(),
    program("kadmin.local kdb5_util", "-pw -P").whole().places(&["addprinc -pw S", "cpw -pw S"]),
    program("ipa-server-install ipa-client-install ipa-replica-install", "-a -p -w").valued("nrd"),
    program("ipa-adtrust-install ipa-ca-install", "-p -a"),
    program("adcli realm msktutil adtool", "--old-account-password"),
    program("useradd usermod adduser newusers groupmod groupadd", "-p").valued("bcdefGgkKlsuZ"),
    places("net", &["user _ S"]),
    places("dscl", &["-passwd _ S…"]),
    places("sysadminctl", &["-password S", "-adminPassword S"]),
    program("mkpasswd", "").places(&["1 S"]),
    places("pwdhash grub-crypt", &["1 S"]),
    program("vncpasswd x11vnc vncviewer", "-passwd -storepasswd"),
    // Remote shells and desktops.
    program("plink* pscp* psftp* putty* puttygen* kitty klink", "-pw --new-passphrase").whole(),
    program("ssh-keygen", "-N -P").valued("abBCDEfFGIJJKlMnoOrRsStVwWYzZ"),
    program("rdesktop", "-p").valued("adgku"),
    program(
        "xfreerdp* wlfreerdp* sdl-freerdp* freerdp* mstsc cmdkey sdl3-freerdp",
        "/p: /pth: /gp: /pass: /password: /gw-pass: /pwd: /proxypass:",
    ),
    program(
        "evil-winrm crackmapexec cme nxc netexec kerbrute bloodhound* ldapdomaindump",
        "-p -H -hashes --hash",
    ),
    program("winexe pth-* psexec", "-U -p"),
    program("medusa ncrack patator crowbar", "-p"),
    program("hydra", "-p").valued("lLPCMots"),
    program("impacket-*", "-hashes -aesKey").whole().places(&["C"]),
    program(
        "psexec smbexec wmiexec atexec dcomexec secretsdump GetUserSPNs GetNPUsers GetADUsers getTGT getST \
         lookupsid mssqlclient ticketer addcomputer changepasswd  findDelegation rbcd \
         dacledit ntlmrelayx smbserver",
        "-hashes -aesKey -nthash -computer-pass -newpass",
    )
    .whole()
    .places(&["C"]),
    program("rustdesk anydesk teamviewer", "--password --passwd").places(&["passwd S"]),
    // Files.
    program("zip unzip zipcloak zipnote funzip", "-P").valued("bdntx"),
    program("7z 7za 7zr 7zz 7zzs rar unrar", "-hp").attached("p").shown("-p-"),
    program(
        "qpdf pdftotext pdftoppm pdfinfo pdfimages pdftocairo pdftohtml pdfunite mutool mudraw",
        "-upw -opw",
    )
    .whole(),
    places("pdftk", &["input_pw S…", "user_pw S", "owner_pw S", "encrypt _ S…"]),
    places("qpdf", &["--encrypt S S"]),
    program("steghide outguess stegseek", "-p -k"),
    program("ccrypt ccencrypt ccdecrypt", "-K --key"),
    program("veracrypt truecrypt", "-p --new-password"),
    program("gocryptfs encfs", "-passphrase"),
    program("cryptsetup", "--key"),
    program("pk12util certutil modutil", "-W -K -w"),
    program("keytool apksigner jarsigner", "--ks-pass --key-pass -new -storepass -keypass").whole().shown(
        "-storepass:file -storepass:env -keypass:file -keypass:env -srcstorepass:file -srcstorepass:env \
         -deststorepass:file -deststorepass:env",
    ),
    program(
        "openssl",
        "-pass -passin -passout -k -K -macopt -psk -srppass -hmac -kpass -passwd -password -key_pass",
    )
    .whole()
    .shown("-newkey -keyform -keyout -passwordfile")
    .places(&["passwd S…"]),
    program("gpg gpg2", "").shown("--default-key"),
    program("osslsigncode signtool", "-pass -p /p").whole(),
    program("rclone", "").places(&["obscure S…"]),
    places("b2 b2v4", &["authorize-account _ S", "account authorize _ S"]),
    program("lftp", "-u --user").valued("cefp"),
    program("open", "-u --user").valued("cefp").first(),
    program("ncftpput ncftpget ncftpls", "-p").valued("u"),
    program("curlftpfs", "").pairs("-o"),
    // Containers and clusters.
    program("docker podman nerdctl buildah skopeo helm crane oras oc az twine cf regctl", "-p")
        .when("login upload publish")
        .valued("ucf"),
    program("oras regctl", "-p"),
    program("docker podman nerdctl buildah", "").shown("--secret"),
    program("podman buildah skopeo crictl nerdctl", "").pairs("--creds --src-creds --dest-creds --auth"),
    program("ctr", "").pairs("--user -u"),
    program("kubectl oc k3s microk8s", "--from-literal").when("secret").shown("--from-file"),
    program("argocd", "--auth-token"),
    // Clouds.
    program("az", "-p").when("server sp").valued("ugnl"),
    program("az", "--value").when("secret"),
    program("aws", "--value").when("SecureString put-parameter"),
    program("aws", "").shown("--key --secret-id --token-code-name --kms-key"),
    program("gcloud gsutil", "").shown("--key --kms-key --crypto-key --secret --update-secrets"),
    program("doctl", "-t").valued("cou"),
    program("swift openstack", "-K --key"),
    program("openstack", "").shown("--key --key-name"),
    program("linode-cli scw hcloud exo vultr civo", "--root_pass"),
    program("netlify vercel surge railway render now firebase wrangler", "--auth -t --token").whole(),
    program("fly", "-p").when("login"),
    places("cf", &["auth _ S", "passwd S S"]),
    places("ibmcloud", &["login -p S", "--apikey S"]),
    program("vault bao", "").places(&[
        "login S…",
        "unseal S…",
        "unwrap S…",
        "token lookup S…",
        "token revoke S…",
        "token renew S…",
        "put =…",
        "patch =…",
        "rekey S…",
    ]),
    program("consul", "-encrypt -token").whole().places(&["keyring -install S", "token -id S"]),
    program("nomad serf", "-encrypt -token").whole(),
    places("pulumi", &["--secret _ S…"]),
    program("gh glab", "-b -v --body --value").when("secret variable"),
    places("ansible-vault", &["encrypt_string S…"]),
    program(
        "knife chef-client salt-ssh inspec kitchen",
        "-P --ssh-password --password --passwd --sudo-password",
    ),
    program("govc ovftool esxcli vcfcli vim-cmd vmware-cmd vicfg-* esxcfg-*", "-p")
        .when("-u --username -h -s"),
    program("racadm omconfig hponcfg sum ipmicfg idrac*", "-p -P").valued("ru"),
    program("ipmitool ipmipower ipmi-sensors ipmi-*", "-P -K -k --password")
        .valued("HUI")
        .places(&["set password _ S"]),
    program("fence_*", "-p --password").valued("alnou"),
    program("virsh virt-install qm pct pvesh", "--cipassword --password"),
    places("virsh", &["set-user-password _ S", "secret-set-value _ S"]),
    // Networks.
    program("snmp*", "-A -X -c").valued("aelLmMnOrtuvxZ"),
    program("check_*", "-p -P -a -C -A -X -x -K").valued("HhwcutdsSoilLnNeErRmTvVDU").or_number().first(),
    program("check_nrpe check_tcp check_udp check_ping check_ssh check_by_ssh", "").shown("-a -A -p -P -C"),
    program("openfortivpn anyconnect snx gpclient globalprotect", "-p --otp -o"),
    program("openconnect", "--form-entry -p"),
    program("vpnc strongswan racoonctl", "--secret"),
    places("pppd pon wvdial", &["password S"]),
    program("openvpn", "").shown("--auth-user-pass --askpass --auth --key --tls-auth --tls-crypt"),
    program("ss-server ss-local ss-redir ss-tunnel ss-manager sslocal ssserver ssservice obfs-*", "-k --key"),
    program("zerotier-cli", "-T"),
    program("kcptun* gost brook v2ray xray trojan* hysteria* naive", "--key -key -p").whole(),
    program("frpc frps", "-t --token"),
    program("chisel bore rathole", "--auth -s --secret"),
    places("ngrok", &["authtoken S", "add-authtoken S", "add-api-key S"]),
    places("ip", &["enc _ S", "auth _ S", "aead _ S", "auth-trunc _ S", "macsec key _ S"]),
    places("radtest", &["1 _ S _ _ S"]),
    places("radclient radwho", &["1 _ _ S"]),
    places("wpa_passphrase", &["1 _ S"]),
    places("wpa_cli", &["psk S", "wpa_pin _ S", "sae_password S"]),
    places("iw iwconfig", &["key S…", "enc S", "-k S"]),
    places("nmcli", &["password S"]),
    program("networksetup", "").places(&["-setairportnetwork _ _ S"]),
    program("iwctl", "-P --passphrase"),
    program("nsupdate dig delv kdig knsupdate host mdig", "-y").valued("bcfkpqt"),
    places("pdnsutil", &["import-tsig-key _ _ S"]),
    program("rndc", "").shown("-k -y"),
    program("turnserver turnutils*", "-w -W").pairs("-u --user"),
    places("turnadmin", &["-p S", "-s S"]),
    program("stunnel proxytunnel", "-P -R").pairs("-P -R"),
    program("tinyproxy microsocks dante sockd 3proxy", "-P"),
    program(
        "pkcs11-tool pkcs15-tool pkcs15-init yubico-piv-tool ykman nitropy",
        "-p -P --pin --so-pin --puk --new-pin --new-puk",
    )
    .shown("--touch-key"),
    program("tpm2_*", "-p -P -w"),
    // Messages, mail and telephones.
    program("mosquitto_*", "-P").valued("hupt"),
    program("mqttx paho_c_pub mqtt hivemq", "-P -pw --password"),
    program("coap-client coap-client-*", "-k").valued("mubtfo"),
    program("rabbitmqadmin", "-p").valued("HuPVcNf"),
    places(
        "rabbitmqctl",
        &["add_user $", "add_user _ S", "change_password $", "change_password _ S", "authenticate_user $"],
    ),
    program("nats-server gnatsd nats", "--auth --pass"),
    program("swaks sendemail sendEmail", "-ap -xp --auth-password -au-pass").whole(),
    program("imapsync", "--password1 --password2"),
    program("doveadm", "-p").when("pw").valued("sr"),
    places("doveadm", &["auth test $", "auth login $"]),
    places("saslpasswd2 testsaslauthd", &["-p S"]),
    program("testsaslauthd", "-p"),
    program("fs_cli", "-p").valued("HPxutld"),
    program("asterisk sipp sipsak sipcmd linphonec", "-ap -a -P").when("-ap -a -P").whole(),
    program("ffmpeg ffprobe ffplay", "-decryption_key -encryption_key -cenc_decryption_key")
        .whole()
        .shown("-pass"),
    program("vlc cvlc", "--http-password"),
    // Logs and measures.
    program("elasticsearch-users elasticsearch-reset-password", "-p"),
    program("splunk", "-auth -password -secret").whole(),
    places("grafana-cli grafana", &["reset-admin-password S"]),
    places("influx", &["create -p S"]),
    places("zabbix_sender", &["--tls-psk S"]),
    program("sonar-scanner", "-Dsonar.login= -Dsonar.password="),
    // Code, packages and builds.
    program("nuget dotnet choco", "-k --api-key -ApiKey -Password --store-password-in-clear-text")
        .shown("--store-password-in-clear-text")
        .whole(),
    places("nuget choco", &["setApiKey S", "setapikey S"]),
    program("drone anaconda codecov woodpecker", "-t"),
    program("xcrun altool notarytool", "-p"),
    places("npm yarn pnpm", &["config set *_authToken S", "config set *_auth S", "config set *_password S"]),
    places(
        "composer",
        &[
            "http-basic* _ S",
            "github-oauth* S",
            "gitlab-token* S",
            "gitlab-oauth* S",
            "bearer* S",
            "bitbucket-oauth* _ S",
        ],
    ),
    places("poetry", &["http-basic* _ S", "pypi-token* S"]),
    places("bundle bundler", &["config set _ C", "config _ C"]),
    places("cargo", &["login S"]),
    program("gem", "--key -k").when("push"),
    places("wandb comet", &["login S"]),
    places("snyk", &["auth S", "config set api=…"]),
    places("pro ua", &["attach S"]),
    places("huggingface-cli hf", &["login S"]),
    places("mvn mvnd", &["--encrypt-password S", "--encrypt-master-password S", "-emp S", "-ep S"]),
    places("heroku", &["authorizations:create S"]),
    places("airflow", &["users create -p S"]),
    program("airflow superset", "-p").when("users fab create-admin create-user"),
    places("htpasswd", &["-b $"]),
    places("mosquitto_passwd", &["-b $"]),
    places(
        "mc mcli",
        &["alias set _ _ _ S", "host add _ _ _ S", "user add _ _ S", "user svcacct add --secret-key S"],
    ),
    places("jenkins-cli", &["-auth C"]),
    // Coins.
    places(
        "bitcoin-cli litecoin-cli dogecoin-cli dash-cli zcash-cli namecoin-cli",
        &[
            "walletpassphrase S",
            "encryptwallet S",
            "walletpassphrasechange S S",
            "importprivkey S",
            "sethdseed _ S",
        ],
    ),
    program("monerod monero-wallet-rpc monero-wallet-cli", "").pairs("--rpc-login --daemon-login"),
    program("geth bootnode", "-nodekeyhex --nodekeyhex").shown("--password --authrpc.jwtsecret"),
    program("cgminer bfgminer sgminer xmrig ccminer cpuminer minerd ethminer", "-p --pass")
        .pairs("-O --userpass"),
    program("lego", "--hmac"),
    // Others.
    program("transmission-remote", "").pairs("-n --auth"),
    program("transmission-daemon", "-v --password"),
    program("deluge-console qbittorrent-nox", "-P --password"),
    program("sort uniq", "").shown("--key"),
    program("postgres", "").shown("password_encryption="),
    program("security", "-p -w -P")
        .when("unlock-keychain add-generic-password add-internet-password import create-keychain"),
    program("npm yarn pnpm", "_auth="),
    places("bw", &["login _ S", "unlock S"]),
    places("op", &["signin _ _ S"]),
    program("wrangler", "--value").when("secret"),
    program("mcrcon rcon rcon-cli", "-p --password"),
    program("gpg-preset-passphrase", "-P --passphrase"),
    program("add-user jboss-cli", "-p --password").whole(),
    program("caddy", "--plaintext").when("hash-password"),
    places("steamcmd", &["+login _ S"]),
    places("drush", &["user:password _ S", "upwd _ S", "user-password _ S"]),
    places("nifi", &["set-single-user-credentials _ S"]),
    places("etcdctl", &["user add C"]),
    places("onesixtyone", &["1 _ S"]),
    places("send", &["1 S…"]).first(),
    program("git", "").shown("user.signingkey"),
];

/// Programs that read a secret from their standard input, each with the words one of which has to be among their
/// arguments; none for always. What has an option as `--password-stdin` needs no place here.
pub(super) const READERS: &[(&str, &str)] = &[
    (
        "chpasswd passwd chgpasswd smbpasswd saslpasswd2 vncpasswd pdbedit ldappasswd mkpasswd htdigest gpasswd",
        "",
    ),
    ("kinit kpasswd kadmin ktutil su runuser newusers pinentry", ""),
    ("sudo", "-S --stdin"),
    ("cryptsetup zuluCrypt-cli veracrypt gocryptfs encfs mount.davfs mount.cifs cifscreds fscrypt", ""),
    ("systemd-creds systemd-cryptenroll clevis kubeseal steghide ssh-add wpa_passphrase realm", ""),
    ("zfs zpool", "load-key change-key create"),
    ("mount", "davfs cifs ecryptfs encfs"),
    ("bioctl geli gbde dislocker", ""),
    ("gh glab", "--with-token --stdin secret"),
    (
        "elasticsearch-keystore logstash-keystore opensearch-keystore kibana-keystore filebeat metricbeat",
        "add",
    ),
    ("docker podman nerdctl helm crane oras skopeo buildah", "--password-stdin create login"),
    ("openconnect", "--passwd-on-stdin"),
    ("gpg gpg2", "--passphrase-fd"),
    ("openssl", "stdin fd:0 -stdin"),
    ("htpasswd", "-i -iB -niB -ni -nBi"),
    ("vault bao", "- login unseal write put unwrap"),
    ("wg", "pubkey set"),
    ("ansible-vault", "encrypt_string encrypt decrypt"),
    ("pass gopass secret-tool keyring keepassxc-cli bw op lpass", ""),
    ("wrangler fly flyctl vercel heroku", "secret secrets env"),
    ("gcloud", "secrets"),
    ("doctl argocd az npm", "init login"),
    ("rclone", "obscure"),
    ("keytool jarsigner", ""),
    ("borg restic kopia duplicity", ""),
    ("createuser", "-P --pwprompt"),
    ("sshpass", "-d -d0"),
    ("tctl cloudflared", "login"),
    ("age rage", "-p --passphrase"),
    (
        "occ grub-mkpasswd-pbkdf2 grub2-mkpasswd-pbkdf2 mosquitto_passwd rpcclient smbclient net cqlsh ykman",
        "",
    ),
];
