/** Block types and option codes of PcapNG (draft-ietf-opsawg-pcapng). */
export const BLOCK_SECTION_HEADER = 0x0a0d0d0a;
export const BLOCK_INTERFACE_DESCRIPTION = 1;
/** Obsolete, still met. */
export const BLOCK_PACKET = 2;
export const BLOCK_SIMPLE_PACKET = 3;
export const BLOCK_INTERFACE_STATISTICS = 5;
export const BLOCK_ENHANCED_PACKET = 6;
export const BLOCK_DECRYPTION_SECRETS = 10;

export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** TLS Key Log: NSS key log lines. */
export const SECRETS_TLS_KEY_LOG = 0x544c534b;

export const OPTION_END = 0;
export const OPTION_COMMENT = 1;
export const SHB_USERAPPL = 4;
export const IF_NAME = 2;
export const IF_TSRESOL = 9;
export const IF_TSOFFSET = 14;
export const EPB_FLAGS = 2;
export const ISB_STARTTIME = 2;
export const ISB_ENDTIME = 3;
export const ISB_IFRECV = 4;
export const ISB_IFDROP = 5;

/** epb_flags, the lowest two bits. */
export const EPB_INBOUND = 1;
export const EPB_OUTBOUND = 2;
