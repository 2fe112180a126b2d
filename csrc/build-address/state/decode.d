build-address/state/decode.o: state/decode.c state/state.h pymigrate.h \
 base/error.h
state/state.h:
pymigrate.h:
base/error.h:
