"""The modes of the configuration language and the prompts that routers show in them."""

from groupvpn.config.language import Mode

GLOBAL = Mode("global", "(config)#")
ISAKMP_POLICY = Mode("isakmp-policy", "(config-isakmp-policy)#", GLOBAL)
ISAKMP_PEER = Mode("isakmp-peer", "(config-isakmp-peer)#", GLOBAL)
TRANSFORM_SET = Mode("transform-set", "(cfg-crypto-trans)#", GLOBAL)
IPSEC_PROFILE = Mode("ipsec-profile", "(ipsec-profile)#", GLOBAL)
GDOI_GROUP = Mode("gdoi-group", "(config-gdoi-group)#", GLOBAL)
LOCAL_SERVER = Mode("gdoi-local-server", "(gdoi-local-server)#", GDOI_GROUP)
SA_IPSEC = Mode("gdoi-sa-ipsec", "(gdoi-sa-ipsec)#", LOCAL_SERVER)
IDENTIFIER = Mode("gdoi-identifier", "(gdoi-ks-identifier)#", LOCAL_SERVER)
COOPERATIVE = Mode("gdoi-coop", "(gdoi-coop-ks-config)#", LOCAL_SERVER)
CRYPTO_MAP = Mode("crypto-map", "(config-crypto-map)#", GLOBAL)
FAIL_CLOSE = Mode("crypto-map-fail-close", "(crypto-map-fail-close)#", GLOBAL)
MANUAL_MAP = Mode("manual-crypto-map", "(config-crypto-map)#", GLOBAL)
CLASSIC_MAP = Mode("classic-crypto-map", "(config-crypto-map)#", GLOBAL)
CRYPTO_IDENTITY = Mode("crypto-identity", "(config-crypto-identity)#", GLOBAL)
TRUSTPOINT = Mode("trustpoint", "(ca-trustpoint)#", GLOBAL)
CERTIFICATE_CHAIN = Mode("certificate-chain", "(config-cert-chain)#", GLOBAL)
CERTIFICATE = Mode("certificate", "(config-pubkey)#", CERTIFICATE_CHAIN)
STANDARD_LIST = Mode("standard-access-list", "(config-std-nacl)#", GLOBAL)
EXTENDED_LIST = Mode("extended-access-list", "(config-ext-nacl)#", GLOBAL)
INTERFACE = Mode("interface", "(config-if)#", GLOBAL)
ROUTER = Mode("router", "(config-router)#", GLOBAL)
ADDRESS_FAMILY = Mode("address-family", "(config-router-af)#", ROUTER)
LINE = Mode("line", "(config-line)#", GLOBAL)
ARCHIVE = Mode("archive", "(config-archive)#", GLOBAL)
ARCHIVE_LOG = Mode("archive-log", "(config-archive-log-cfg)#", ARCHIVE)
CONTROL_PLANE = Mode("control-plane", "(config-cp)#", GLOBAL)
DIAL_PEER_COR = Mode("dial-peer-cor", "(config-dp-cor)#", GLOBAL)
REDUNDANCY = Mode("redundancy", "(config-red)#", GLOBAL)
OBJECT_GROUP = Mode("object-group", "(config-object-group)#", GLOBAL)
TIME_RANGE = Mode("time-range", "(config-time-range)#", GLOBAL)
ZONE_PAIR = Mode("zone-pair", "(config-sec-zone-pair)#", GLOBAL)

MODES: tuple[Mode, ...] = (
    GLOBAL,
    ISAKMP_POLICY,
    ISAKMP_PEER,
    TRANSFORM_SET,
    IPSEC_PROFILE,
    GDOI_GROUP,
    LOCAL_SERVER,
    SA_IPSEC,
    IDENTIFIER,
    COOPERATIVE,
    CRYPTO_MAP,
    FAIL_CLOSE,
    MANUAL_MAP,
    CLASSIC_MAP,
    CRYPTO_IDENTITY,
    TRUSTPOINT,
    CERTIFICATE_CHAIN,
    CERTIFICATE,
    STANDARD_LIST,
    EXTENDED_LIST,
    INTERFACE,
    ROUTER,
    ADDRESS_FAMILY,
    LINE,
    ARCHIVE,
    ARCHIVE_LOG,
    CONTROL_PLANE,
    DIAL_PEER_COR,
    REDUNDANCY,
    OBJECT_GROUP,
    TIME_RANGE,
    ZONE_PAIR,
)
